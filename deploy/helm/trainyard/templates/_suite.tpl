{{/* Fill `.into` with a context of each enabled service. .root: this chart's own */}}
{{- define "suite.contexts" -}}
{{- $root := .root }}{{- $into := .into }}
{{- $own := list "profile" "prometheusRule" "dashboards" "priorityClasses" "test" "dev" "global" "trainyard-lib" }}
{{- $facts := include "trainyard.facts" . | fromYaml }}
{{- $shared := dict }}
{{- range $name, $value := $root.Values }}
{{- if not (or (has $name $own) (hasKey $facts $name)) }}{{ $_ := set $shared $name $value }}{{ end }}
{{- end }}
{{- $prefix := include "trainyard.prefix" (dict "release" $root.Release.Name "service" "") }}
{{- $forced := dict }}
{{- $small := eq $root.Values.profile "dev" }}
{{- if $small }}{{ $forced = include "suite.dev.values" (dict "prefix" $prefix "root" $root) | fromYaml }}{{ end }}
{{- range $name, $chart := $root.Subcharts }}
{{- if hasKey $facts $name }}
{{- $c := dict }}
{{- $_ := include "trainyard.context" (dict "chart" $chart "shared" $shared "forced" $forced "small" $small "into" $c) }}
{{- if $root.Values.priorityClasses.create }}{{ $_ := include "suite.priorities" (dict "c" $c "root" $root) }}{{ end }}
{{- $_ := set $into $name $c }}
{{- end }}
{{- end }}
{{- end }}

{{/* A context of the suite itself, for what belongs to no service: its names, and the shared values. */}}
{{- define "suite.context" -}}
{{- $prefix := include "trainyard.prefix" (dict "release" .root.Release.Name "service" "") }}
{{- $v := deepCopy (index .root.Values "trainyard-lib") }}
{{- $_ := set .into "Release" .root.Release }}
{{- $_ := set .into "Chart" .root.Chart }}
{{- $_ := set .into "service" "trainyard" }}
{{- $_ := set .into "prefix" $prefix }}
{{- $_ := set .into "partOf" (trimSuffix "-" $prefix) }}
{{- $_ := set .into "suite" true }}
{{- $_ := set .into "v" (mergeOverwrite $v (deepCopy (omit .root.Values "trainyard-lib"))) }}
{{- end }}

{{- define "suite.priority.name" -}}
{{ printf "%s-%s%s" .root.Release.Namespace .prefix .class }}
{{- end }}

{{/* Give pods their class, where nobody has said another. */}}
{{- define "suite.priorities" -}}
{{- $c := .c }}{{- $root := .root }}
{{- range $kind := list "api" "reconcile" "runner" }}
{{- with index $c.v $kind }}
{{- $class := ternary "jobs" "control" (eq $kind "runner") }}
{{- if and (eq $kind "api") (has $c.service (list "gateway" "serving")) }}{{ $class = "serving" }}{{ end }}
{{- if not .priorityClassName }}
{{- $_ := set . "priorityClassName" (include "suite.priority.name" (dict "root" $root "prefix" $c.prefix "class" $class) | trim) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* What `profile: dev` holds to: services are told of the built-in ones. */}}
{{- define "suite.dev.values" -}}
{{- $labels := dict "app.kubernetes.io/instance" .root.Release.Name "app.kubernetes.io/component" "" }}
database: {existingSecret: {{ .prefix }}postgresql, key: uri, singleRole: true}
objects:
  url: s3://trainyard
  endpoint: http://{{ .prefix }}objects:8333
  region: us-east-1
  allowHttp: true
  existingSecret: {{ .prefix }}objects
  accessKeyIdKey: access_key_id
  secretAccessKeyKey: secret_access_key
redis: {existingSecret: {{ .prefix }}redis, key: url}
migrate: {mode: init}
networkPolicy:
  {{- range $what, $it := dict "database" (list "postgresql" 5432) "objects" (list "objects" 8333) "redis" (list "redis" 6379) }}
  {{ $what }}:
    to:
      - podSelector:
          matchLabels:
            app.kubernetes.io/instance: {{ $.root.Release.Name }}
            app.kubernetes.io/component: {{ index $it 0 }}
    ports: [{{ index $it 1 }}]
  {{- end }}
{{- end }}

{{/* Secrets with random parts, made once by the Job that makes keys: its arguments. */}}
{{- define "suite.dev.random" -}}
- "--secret={{ . }}postgresql:password={random}"
- "--secret={{ . }}postgresql:uri=postgresql://trainyard:{random}@{{ . }}postgresql:5432/trainyard"
- "--secret={{ . }}objects:access_key_id=trainyard"
- "--secret={{ . }}objects:secret_access_key={random}"
- "--secret={{ . }}redis:url=redis://:{random}@{{ . }}redis:6379/0"
- "--secret={{ . }}redis:valkey.conf=requirepass {random}"
{{- end }}
