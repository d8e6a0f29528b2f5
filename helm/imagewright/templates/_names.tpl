{{/* Names and labels that every object of the release carries. */}}

{{- define "imagewright.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Call with (list $ "component"). */}}
{{- define "imagewright.name" -}}
{{- printf "%s-%s" (include "imagewright.fullname" (index . 0)) (index . 1) -}}
{{- end -}}

{{- define "imagewright.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "imagewright.labels" -}}
{{- $root := index . 0 -}}
{{ include "imagewright.selector" . }}
app.kubernetes.io/part-of: imagewright
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end -}}

{{/* metadata of one object: (list $ "component"). */}}
{{- define "imagewright.metadata" -}}
name: {{ include "imagewright.name" . }}
namespace: {{ (index . 0).Release.Namespace }}
labels:
  {{- include "imagewright.labels" . | nindent 2 }}
{{- end -}}
