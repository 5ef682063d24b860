{{/*
What every service is, apart from what anybody may choose. The one table that pods, addresses and network policies are
made of.
  peers     whose API it calls: <SERVICE>_<PEER>_URL, and a network policy's edge
  balances  it is given every address of a peer, not the one that stands for all
  objects   it keeps bytes of its own
  work      it has a folder of its own
  metrics   the port of /metrics, where that is not the API's
*/}}
{{- define "trainyard.facts" -}}
gateway: {peers: [ingest, trainer, registry, serving, pipelines], balances: true, work: true, metrics: 9000}
ingest: {peers: [], objects: true, work: true}
trainer: {peers: [ingest, registry, trainer], objects: true, work: true}
registry: {peers: [], objects: true}
serving: {peers: [ingest, registry], work: true}
pipelines: {peers: [ingest, trainer, registry, serving]}
{{- end }}

{{/*
Fill `.into` with all that the other templates need of one service.
  .chart   the service's chart: its Values, Chart, Release
  .shared  values that the suite gives to all of its services, or nothing
  .forced  values that a profile of the suite holds to, or nothing
  .small   whether pods ask for next to nothing
*/}}
{{- define "trainyard.context" -}}
{{- $chart := .chart }}
{{- $service := $chart.Chart.Name }}
{{- $suite := not (kindIs "invalid" .shared) }}
{{- $own := omit $chart.Values "trainyard-lib" "global" "enabled" }}
{{- $v := deepCopy (index $chart.Values "trainyard-lib") }}
{{- $v = mergeOverwrite $v (deepCopy (.shared | default dict)) (deepCopy (.forced | default dict)) (deepCopy $own) }}
{{- if .small }}
{{- range $kind := list "api" "reconcile" "runner" "migrate" }}
{{- with index $v $kind }}
{{- $_ := set .resources "requests" (dict "cpu" "10m" "memory" "64Mi") }}
{{- end }}
{{- end }}
{{- end }}
{{- $prefix := include "trainyard.prefix" (dict "release" $chart.Release.Name "service" (ternary "" $service $suite)) }}
{{- $_ := set .into "service" $service }}
{{- $_ := set .into "Release" $chart.Release }}
{{- $_ := set .into "Chart" $chart.Chart }}
{{- $_ := set .into "v" $v }}
{{- $_ := set .into "facts" (index (include "trainyard.facts" . | fromYaml) $service) }}
{{- $_ := set .into "prefix" $prefix }}
{{- $_ := set .into "fullname" (print $prefix $service) }}
{{- $_ := set .into "suite" $suite }}
{{- $_ := set .into "partOf" (trimSuffix "-" $prefix | default "trainyard") }}
{{- end }}

{{/*
What all names begin with. A suite is named after its release. A service's own release may end with the service's name
(`ingest`, `blue-ingest`): what comes before is then what its neighbours' names begin with too. Long ones are cut, so that
every name has 63 characters at most, and kept apart by a hash.
*/}}
{{- define "trainyard.prefix" -}}
{{- $prefix := printf "%s-" .release }}
{{- if and .service (or (eq .service .release) (hasSuffix (printf "-%s" .service) .release)) }}
{{- $prefix = trimSuffix .service .release }}
{{- end }}
{{- if gt (len $prefix) 40 }}
{{- $prefix = printf "%s-%s-" ($prefix | trunc 30 | trimSuffix "-") ($prefix | sha256sum | trunc 8) }}
{{- end }}
{{- $prefix }}
{{- end }}

{{/* Labels that never change: what a Deployment and a Service select. */}}
{{- define "trainyard.selector" -}}
app.kubernetes.io/name: {{ .c.service }}
app.kubernetes.io/instance: {{ .c.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "trainyard.labels" -}}
{{ include "trainyard.selector" . }}
app.kubernetes.io/part-of: {{ .c.partOf }}
app.kubernetes.io/version: {{ .c.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .c.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .c.Chart.Name .c.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "trainyard.metadata" -}}
name: {{ .name }}
namespace: {{ .c.Release.Namespace }}
labels:
  {{- include "trainyard.labels" . | trim | nindent 2 }}
{{- end }}

{{/* .image: values of one image, .name: its name, .version: the tag when there is none. */}}
{{- define "trainyard.image" -}}
{{- $name := printf "%s/%s" (trimSuffix "/" .image.registry) .name }}
{{- if .image.digest }}
{{- printf "%s@%s" $name .image.digest }}
{{- else }}
{{- printf "%s:%s" $name (.image.tag | default .version) }}
{{- end }}
{{- end }}

{{/* The image of a service's own pods. */}}
{{- define "trainyard.image.of" -}}
{{- $name := .service }}
{{- if and (eq .service "serving") (eq .v.image.variant "onnx") }}{{ $name = "serving-onnx" }}{{ end }}
{{- include "trainyard.image" (dict "image" .v.image "name" $name "version" .Chart.AppVersion) }}
{{- end }}

{{- define "trainyard.key.secret" -}}
{{ .v.keys.existingSecret | default (printf "%s-key" .fullname) }}
{{- end }}

{{- define "trainyard.key.public" -}}
{{ .v.keys.existingPublicConfigMap | default (printf "%s-public-keys" .partOf) }}
{{- end }}

{{- define "trainyard.database.key" -}}
{{ .v.database.key | default (ternary "uri" .service .v.database.singleRole) }}
{{- end }}

{{/* .c, .peer: where a neighbour answers. */}}
{{- define "trainyard.peer.url" -}}
{{- $given := index .c.v.peers .peer | default dict }}
{{- $suffix := ternary "-endpoints" "" (default false .c.facts.balances) }}
{{- $given.url | default (printf "http://%s%s%s:8000" .c.prefix .peer $suffix) }}
{{- end }}

{{/* The port of a URL, for a network policy. */}}
{{- define "trainyard.port.of" -}}
{{- $url := urlParse . }}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" }}
{{- $port | default (ternary "80" "443" (eq $url.scheme "http")) }}
{{- end }}

{{/* A number or text as an environment variable's text: 1000000, not 1e+06. */}}
{{- define "trainyard.text" -}}
{{- if kindIs "float64" . }}
{{- ternary (int64 . | toString) (toString .) (eq (floor .) .) | quote }}
{{- else }}
{{- toString . | quote }}
{{- end }}
{{- end }}

{{- define "trainyard.termination" -}}
{{ add (int .v.drainSeconds) (int .v.graceSeconds) 10 }}
{{- end }}
