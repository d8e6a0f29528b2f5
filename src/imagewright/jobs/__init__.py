"""One module per job: what a container runs. The frame around them decides what is done, cached or resumed."""
