{{/* One server pod, the same for the stable Deployment, the canary and KServe: (list $ payload), an empty payload for the champion. */}}

{{- define "serving.podSettings" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .Values.pods.userId }}
  runAsGroup: {{ .Values.pods.userId }}
  fsGroup: {{ .Values.pods.userId }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
terminationGracePeriodSeconds: {{ add .Values.pods.drainSeconds 15 }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.pods.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.pods.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.pods.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- define "serving.container" -}}
{{- $root := index . 0 -}}
{{- $values := $root.Values -}}
image: {{ printf "%s@%s" $values.image.repository $values.image.digest | quote }}
imagePullPolicy: {{ $values.image.pullPolicy }}
command: [imagewright, serve]
args:
  - {{ $values.model.lineage }}
  - --host=0.0.0.0
  - --port=8000
  - --recipe={{ $values.model.recipe }}
  - --set=serving.max_queue={{ $values.model.maxQueue }}
  {{- with index . 1 }}
  - --payload={{ . }}
  {{- end }}
envFrom:
  - configMapRef:
      name: {{ $values.platform.contractConfigMap }}
env:
  - name: AWS_ACCESS_KEY_ID
    valueFrom:
      secretKeyRef:
        name: {{ $values.platform.s3Secret }}
        key: access-key-id
  - name: AWS_SECRET_ACCESS_KEY
    valueFrom:
      secretKeyRef:
        name: {{ $values.platform.s3Secret }}
        key: secret-access-key
  - name: IMAGEWRIGHT_API_KEYS
    valueFrom:
      secretKeyRef:
        name: {{ $values.apiKeysSecret }}
        key: api-keys
  - {name: IMAGEWRIGHT_HOME, value: /cache}
  - {name: HOME, value: /tmp}
ports:
  - {name: http, containerPort: 8000}
startupProbe:
  httpGet: {path: /ready, port: 8000}
  periodSeconds: 5
  failureThreshold: {{ div (add $values.pods.startupSeconds 4) 5 }}
readinessProbe:
  httpGet: {path: /ready, port: 8000}
  periodSeconds: 5
  timeoutSeconds: 3
livenessProbe:
  # Liveness does not run the model: a long queue must not get a server killed.
  httpGet: {path: /health, port: 8000}
  periodSeconds: 20
  timeoutSeconds: 5
  failureThreshold: 6
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
resources:
  {{- toYaml $values.resources | nindent 2 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  - {name: shm, mountPath: /dev/shm}
  - {name: cache, mountPath: /cache}
{{- end -}}

{{- define "serving.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 4Gi}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: 2Gi}
- name: cache
  {{- if .Values.cache.existingClaim }}
  persistentVolumeClaim:
    claimName: {{ .Values.cache.existingClaim }}
  {{- else }}
  emptyDir: {sizeLimit: {{ .Values.cache.size }}}
  {{- end }}
{{- end -}}
