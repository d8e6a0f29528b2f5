{{/* Names and labels that every object of the release carries. */}}

{{- define "serving.fullname" -}}
{{- if contains "serving" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-serving" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Call with (list $ "stable") or (list $ "canary"). */}}
{{- define "serving.name" -}}
{{- printf "%s-%s" (include "serving.fullname" (index . 0)) (index . 1) -}}
{{- end -}}

{{- define "serving.release" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "serving.selector" -}}
{{ include "serving.release" (index . 0) }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "serving.labels" -}}
{{- $root := index . 0 -}}
{{ include "serving.selector" . }}
app.kubernetes.io/part-of: imagewright
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end -}}

{{- define "serving.metadata" -}}
name: {{ include "serving.name" . }}
namespace: {{ (index . 0).Release.Namespace }}
labels:
  {{- include "serving.labels" . | nindent 2 }}
{{- end -}}
