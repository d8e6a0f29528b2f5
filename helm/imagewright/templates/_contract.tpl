{{/* The env contract of a job: endpoints from the ConfigMap, credentials from the referenced secret. */}}

{{- define "imagewright.s3Endpoint" -}}
{{- if eq .Values.objectStore.mode "seaweedfs" -}}
http://{{ include "imagewright.name" (list . "seaweedfs") }}.{{ .Release.Namespace }}.svc:8333
{{- else -}}
{{ .Values.objectStore.external.endpoint }}
{{- end -}}
{{- end -}}

{{- define "imagewright.mlflowUrl" -}}
http://{{ include "imagewright.name" (list . "mlflow") }}.{{ .Release.Namespace }}.svc:5000
{{- end -}}

{{- define "imagewright.registryUrl" -}}
{{- if eq .Values.registry.mode "git" -}}{{ .Values.registry.git.url }}{{- else -}}/registry/registry.git{{- end -}}
{{- end -}}

{{- define "imagewright.contractFrom" -}}
envFrom:
  - configMapRef:
      name: {{ include "imagewright.name" (list . "contract") }}
{{- end -}}

{{- define "imagewright.s3Credentials" -}}
- name: AWS_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef:
      name: {{ .Values.objectStore.existingSecret }}
      key: access-key-id
- name: AWS_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef:
      name: {{ .Values.objectStore.existingSecret }}
      key: secret-access-key
{{- end -}}

{{/* Where MLflow's database is; libpq takes the bundled one's password from PGPASSWORD, so that it need not be escaped into a URI. */}}
{{- define "imagewright.database" -}}
{{- if eq .Values.mlflow.database.mode "bundled" -}}
- name: MLFLOW_BACKEND_STORE_URI
  value: postgresql://mlflow@{{ include "imagewright.name" (list . "postgresql") }}.{{ .Release.Namespace }}.svc:5432/mlflow
- name: PGPASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ .Values.mlflow.database.existingSecret }}
      key: password
{{- else -}}
- name: MLFLOW_BACKEND_STORE_URI
  valueFrom:
    secretKeyRef:
      name: {{ .Values.mlflow.database.existingSecret }}
      key: uri
{{- end -}}
{{- end -}}
