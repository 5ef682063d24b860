{{/* Ports and peers of a rule. .to or .from, .ports, .protocols */}}
{{- define "trainyard.rule" -}}
{{- $protocols := .protocols | default (list "TCP") }}
{{- $ports := .ports }}
- ports:
    {{- range $protocol := $protocols }}
    {{- range $ports }}
    - {port: {{ int . }}, protocol: {{ $protocol }}}
    {{- end }}
    {{- end }}
  {{- with .to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .from }}
  from:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* Pods of a service in the same suite, as a network policy's peer. */}}
{{- define "trainyard.pods" -}}
app.kubernetes.io/part-of: {{ .c.partOf }}
app.kubernetes.io/name: {{ .service }}
{{- end }}

{{- define "trainyard.egress.dns" -}}
{{- $dns := .v.networkPolicy.dns }}
{{ include "trainyard.rule" (dict "to" $dns.to "ports" $dns.ports "protocols" (list "UDP" "TCP")) }}
{{- end }}

{{- define "trainyard.egress.database" -}}
{{ include "trainyard.rule" (dict "to" .v.networkPolicy.database.to "ports" .v.networkPolicy.database.ports) }}
{{- end }}

{{- define "trainyard.egress.api" -}}
{{ include "trainyard.rule" (dict "to" .v.networkPolicy.apiServer.to "ports" .v.networkPolicy.apiServer.ports) }}
{{- end }}

{{- define "trainyard.egress.otlp" -}}
{{- with .v.otlp.endpoint }}
{{- $it := $.v.networkPolicy.otlp }}
{{ include "trainyard.rule" (dict "to" $it.to "ports" ($it.ports | default (list (include "trainyard.port.of" .)))) }}
{{- end }}
{{- end }}

{{- define "trainyard.egress.peers" -}}
{{- $c := .c }}
{{- range .peers }}
- ports:
    - {port: 8000, protocol: TCP}
  to:
    - podSelector:
        matchLabels:
          {{- include "trainyard.pods" (dict "c" $c "service" .) | trim | nindent 10 }}
          app.kubernetes.io/component: api
{{- end }}
{{- end }}

{{/* What pods of a kind may reach, and who may reach them. .c, .component */}}
{{- define "trainyard.policy" -}}
{{- $c := .c }}{{- $v := $c.v }}{{- $component := .component }}
{{- $runner := eq $component "runner" }}
{{- $own := dict "c" $c "component" $component "name" (print $c.fullname "-" $component) }}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "trainyard.metadata" $own | trim | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "trainyard.selector" $own | trim | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    {{- if eq $component "api" }}
    {{- include "trainyard.ingress.callers" $c | trim | nindent 4 }}
    {{- end }}
    {{- $port := ternary $c.facts.metrics 8000 (and (eq $component "api") (not (empty $c.facts.metrics))) }}
    {{- include "trainyard.rule" (dict "from" $v.networkPolicy.monitoring.from "ports" (list $port)) | trim | nindent 4 }}
  egress:
    {{- include "trainyard.egress.dns" $c | trim | nindent 4 }}
    {{- if not $runner }}
    {{- include "trainyard.egress.database" $c | trim | nindent 4 }}
    {{- end }}
    {{- if and $c.facts.objects (not $runner) }}
    {{- $objects := $v.networkPolicy.objects }}
    {{- $ports := $objects.ports | default (list (include "trainyard.port.of" ($v.objects.endpoint | default "https://s3"))) }}
    {{- include "trainyard.rule" (dict "to" $objects.to "ports" $ports) | trim | nindent 4 }}
    {{- end }}
    {{- if and $v.redis.existingSecret (not $runner) }}
    {{- include "trainyard.rule" (dict "to" $v.networkPolicy.redis.to "ports" $v.networkPolicy.redis.ports) | trim | nindent 4 }}
    {{- end }}
    {{- include "trainyard.egress.otlp" $c | trim | nindent 4 }}
    {{- /* A runner reads data and reports; what its jobs make goes through the trainer. */}}
    {{- include "trainyard.egress.peers" (dict "c" $c "peers" (ternary (list "ingest" "trainer") $c.facts.peers $runner)) | trim | nindent 4 }}
    {{- if include "trainyard.token" $own }}
    {{- include "trainyard.egress.api" $c | trim | nindent 4 }}
    {{- end }}
{{- end }}

{{/* Who may call a service's API: whoever has its address, and the outside for the gateway alone. */}}
{{- define "trainyard.ingress.callers" -}}
{{- $c := . }}
{{- if eq .service "gateway" }}
{{- include "trainyard.rule" (dict "from" .v.networkPolicy.outside.from "ports" (list 8000)) }}
{{- else }}
{{- $facts := include "trainyard.facts" . | fromYaml }}
- ports:
    - {port: 8000, protocol: TCP}
  from:
    {{- range $caller, $its := $facts }}
    {{- if has $c.service $its.peers }}
    - podSelector:
        matchLabels:
          {{- include "trainyard.pods" (dict "c" $c "service" $caller) | trim | nindent 10 }}
    {{- end }}
    {{- end }}
{{- end }}
{{- end }}
