{{/* How a pod reaches the data registry: the shared volume, or git with credentials from the referenced secret. */}}

{{- define "imagewright.registryEnv" -}}
{{- if and (eq .Values.registry.mode "git") .Values.registry.git.existingSecret -}}
- {name: GIT_TERMINAL_PROMPT, value: "0"}
- {name: GIT_CONFIG_COUNT, value: "1"}
- {name: GIT_CONFIG_KEY_0, value: credential.helper}
- {name: GIT_CONFIG_VALUE_0, value: store --file=/git/git-credentials}
{{- end -}}
{{- end -}}

{{- define "imagewright.registryMount" -}}
{{- if eq .Values.registry.mode "volume" -}}
- {name: registry, mountPath: /registry}
{{- else if .Values.registry.git.existingSecret -}}
- {name: registry, mountPath: /git, readOnly: true}
{{- end -}}
{{- end -}}

{{- define "imagewright.registryVolume" -}}
{{- if eq .Values.registry.mode "volume" -}}
- name: registry
  persistentVolumeClaim:
    claimName: {{ include "imagewright.name" (list . "registry") }}
{{- else if .Values.registry.git.existingSecret -}}
- name: registry
  secret:
    secretName: {{ .Values.registry.git.existingSecret }}
    defaultMode: 0440
{{- end -}}
{{- end -}}
