{{/* Settings of a service. .c, .component */}}
{{- define "trainyard.env" -}}
{{- $c := .c }}{{- $v := $c.v }}{{- $p := upper $c.service }}{{- $component := .component }}
{{- if eq .component "runner" }}
# Programs of users run beside it: it has no database, though its settings ask for one.
- name: {{ $p }}_DATABASE_URL
  value: postgresql://nobody@database.invalid/none
{{- else }}
- name: {{ $p }}_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ $v.database.existingSecret }}
      key: {{ include "trainyard.database.key" $c }}
{{- if $v.database.singleRole }}
- name: {{ $p }}_DATABASE_SCHEMA
  value: {{ $c.service }}
{{- end }}
{{- end }}
- name: {{ $p }}_PRIVATE_KEY_FILE
  value: /etc/trainyard/private/private.json
- name: {{ $p }}_PUBLIC_KEYS_FILE
  value: /etc/trainyard/public/public.json
- name: {{ $p }}_HOST
  value: 0.0.0.0
- name: {{ $p }}_PORT
  value: "8000"
- name: {{ $p }}_DRAIN_SECONDS
  value: {{ include "trainyard.text" $v.drainSeconds }}
- name: {{ $p }}_GRACE_SECONDS
  value: {{ include "trainyard.text" $v.graceSeconds }}
{{- if $c.facts.work }}
- name: {{ $p }}_WORK_DIR
  value: /var/lib/trainyard
{{- end }}
{{- if $c.facts.metrics }}
- name: {{ $p }}_METRICS_PORT
  value: {{ include "trainyard.text" $c.facts.metrics }}
{{- end }}
{{- range $c.facts.peers }}
- name: {{ $p }}_{{ upper . }}_URL
  value: {{ include "trainyard.peer.url" (dict "c" $c "peer" .) }}
{{- end }}
{{- if and $v.redis.existingSecret (ne .component "runner") }}
- name: {{ $p }}_REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ $v.redis.existingSecret }}
      key: {{ $v.redis.key }}
{{- end }}
{{- with $v.otlp.endpoint }}
- name: {{ $p }}_OTLP_ENDPOINT
  value: {{ . }}
{{- if and $v.otlp.existingSecret (ne $component "runner") }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom:
    secretKeyRef:
      name: {{ $v.otlp.existingSecret }}
      key: {{ $v.otlp.key }}
{{- end }}
{{- end }}
{{- if $c.facts.objects }}
- name: {{ $p }}_OBJECTS_URL
  value: {{ $v.objects.url }}
{{- if ne .component "runner" }}
{{ include "trainyard.env.objects" $v.objects }}
{{- end }}
{{- end }}
{{- if eq .component "runner" }}
- name: {{ $p }}_RUNNER_PORT
  value: "8000"
- name: {{ $p }}_RUNNER_SLOTS
  value: {{ include "trainyard.text" $v.runner.slots }}
- name: {{ $p }}_RUNNER_MEMORY_BYTES
  value: {{ include "trainyard.text" $v.runner.memoryBytes }}
{{- end }}
{{- range $name, $value := $v.extraEnv }}
- name: {{ $name }}
  value: {{ include "trainyard.text" $value }}
{{- end }}
{{- end }}

{{/* As obstore reads them. */}}
{{- define "trainyard.env.objects" -}}
- name: AWS_REGION
  value: {{ .region }}
{{- with .endpoint }}
- name: AWS_ENDPOINT
  value: {{ . }}
{{- end }}
{{- if .allowHttp }}
- name: AWS_ALLOW_HTTP
  value: "true"
{{- end }}
{{- if .existingSecret }}
- name: AWS_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef:
      name: {{ .existingSecret }}
      key: {{ .accessKeyIdKey }}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef:
      name: {{ .existingSecret }}
      key: {{ .secretAccessKeyKey }}
{{- end }}
{{- end }}

{{/* What the `restricted` level of Pod Security asks of a container, and a root that nobody writes. */}}
{{- define "trainyard.security.container" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "trainyard.security.pod" -}}
{{- include "trainyard.security.user" . }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "trainyard.security.user" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}

{{/* What pods of all kinds begin with. .c, .account: a service account, .token: whether the pod asks the API server */}}
{{- define "trainyard.pod.head" -}}
serviceAccountName: {{ .account }}
automountServiceAccountToken: {{ .token | default false }}
enableServiceLinks: false
{{- with .c.v.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  {{- include "trainyard.security.user" 65532 | trim | nindent 2 }}
  seccompProfile:
    {{- toYaml (.seccomp | default (dict "type" "RuntimeDefault")) | nindent 4 }}
{{- end }}

{{/* A container of the service's own image. .c, .component, .name, .args, .resources, .mounts: names of volumes */}}
{{- define "trainyard.container" -}}
name: {{ .name }}
image: {{ .image | default (include "trainyard.image.of" .c) }}
imagePullPolicy: {{ .c.v.image.pullPolicy }}
{{- with .command }}
command: {{ toJson . }}
{{- end }}
args: {{ toJson .args }}
env:
  {{- include "trainyard.env" . | trim | nindent 2 }}
securityContext:
  {{- include "trainyard.security.container" . | trim | nindent 2 }}
resources:
  {{- toYaml .resources | nindent 2 }}
{{- end }}

{{- define "trainyard.mounts" -}}
- name: tmp
  mountPath: /tmp
- name: private-key
  mountPath: /etc/trainyard/private
  readOnly: true
- name: public-keys
  mountPath: /etc/trainyard/public
  readOnly: true
{{- if .v.filesConfigMap }}
- name: files
  mountPath: /etc/trainyard/files
  readOnly: true
{{- end }}
{{- if .facts.work }}
- name: work
  mountPath: /var/lib/trainyard
{{- end }}
{{- end }}

{{/* .c, .values of the kind of pod */}}
{{- define "trainyard.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: {{ .values.tmpSize }}
- name: private-key
  secret:
    secretName: {{ include "trainyard.key.secret" .c }}
    defaultMode: 0440
    items:
      - key: private.json
        path: private.json
- name: public-keys
  configMap:
    name: {{ include "trainyard.key.public" .c }}
    defaultMode: 0444
{{- with .c.v.filesConfigMap }}
- name: files
  configMap:
    name: {{ . }}
    defaultMode: 0444
{{- end }}
{{- if .c.facts.work }}
- name: work
  emptyDir:
    sizeLimit: {{ .values.workSize }}
{{- end }}
{{- end }}

{{/* For a database that is part of the release: every pod waits for it and brings its schema up to date. One at a time
does so, the others find nothing to do. */}}
{{- define "trainyard.migrate.init" -}}
{{- $args := list "migrate" "--wait=240" }}
- {{ include "trainyard.container" (dict "c" .c "component" "migrate" "name" "migrate" "args" $args "resources" .c.v.migrate.resources) | nindent 2 | trim }}
  volumeMounts:
    - name: tmp
      mountPath: /tmp
{{- end }}

{{- define "trainyard.probes" -}}
startupProbe:
  httpGet: {path: /livez, port: {{ . }}}
  periodSeconds: 1
  timeoutSeconds: 2
  failureThreshold: 120
livenessProbe:
  httpGet: {path: /livez, port: {{ . }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: {{ . }}}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 3
{{- end }}
