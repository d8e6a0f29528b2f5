"""Pipelines: graphs of components. Each module has `build(placement)`; the entry-point group `imagewright.pipelines` names them."""
