{{/* Who may talk to whom. */}}

{{- define "imagewright.release" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Pods of the release's namespace and of the named client namespaces. */}}
{{- define "imagewright.clients" -}}
- podSelector: {}
{{- range .Values.networkPolicy.clientNamespaces }}
- namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: {{ . }}
{{- end }}
{{- end -}}

{{/* Outside services; the address that hands out cloud credentials is never among them. */}}
{{- define "imagewright.outside" -}}
- to:
    {{- range .Values.networkPolicy.externalRanges }}
    - ipBlock:
        cidr: {{ . }}
        {{- if eq . "0.0.0.0/0" }}
        except: [169.254.169.254/32]
        {{- end }}
    {{- end }}
  ports:
    {{- range .Values.networkPolicy.externalPorts }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end -}}
