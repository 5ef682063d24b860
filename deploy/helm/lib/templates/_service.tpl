{{/* All objects of one service. .c: its context, .hooks: whether its own release brings the Jobs that keys come from */}}
{{- define "trainyard.service" -}}
{{- $c := .c }}{{- $v := $c.v }}
{{- $components := list "api" "reconcile" }}
{{- if and (eq $c.service "trainer") $v.runner.enabled }}{{ $components = append $components "runner" }}{{ end }}
{{- $migrates := and (eq $v.migrate.mode "hook") }}
{{- if not $c.suite }}
{{- if $v.keys.create }}
---
{{- $named := dict $c.service (include "trainyard.key.secret" $c) }}
{{ include "trainyard.keys" (dict "c" $c "named" $named "name" (print $c.fullname "-keys")) }}
{{- end }}
{{- if $migrates }}
---
{{ include "trainyard.migrate.account" (dict "c" $c "name" (print $c.fullname "-migrate")) }}
{{- end }}
{{- end }}
{{- if $migrates }}
---
{{ include "trainyard.migrate" (dict "c" $c "account" (ternary (print $c.prefix "migrate") (print $c.fullname "-migrate") $c.suite)) }}
{{- end }}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "trainyard.metadata" (dict "c" $c "component" "api" "name" $c.fullname) | trim | nindent 2 }}
  {{- with $v.serviceAccount.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
---
{{ include "trainyard.service.objects" (dict "c" $c) }}
{{- range $component := $components }}
{{- $own := dict "c" $c "component" $component "name" (print $c.fullname "-" $component) }}
{{- if eq $component "runner" }}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "trainyard.metadata" $own | trim | nindent 2 }}
automountServiceAccountToken: false
{{- end }}
---
{{ include "trainyard.deployment" $own }}
{{- if $v.networkPolicy.enabled }}
---
{{ include "trainyard.policy" $own }}
{{- end }}
{{- if $v.podDisruptionBudget.enabled }}
---
{{ include "trainyard.budget" $own }}
{{- end }}
{{- end }}
{{- if $v.api.autoscaling.enabled }}
---
{{ include "trainyard.autoscaler" (dict "c" $c) }}
{{- end }}
{{- if $v.serviceMonitor.enabled }}
---
{{ include "trainyard.monitor" (dict "c" $c) }}
{{- end }}
{{- if eq $c.service "gateway" }}
{{- if $v.ingress.enabled }}
---
{{ include "trainyard.ingress" (dict "c" $c) }}
{{- end }}
{{- if $v.httpRoute.enabled }}
---
{{ include "trainyard.route" (dict "c" $c) }}
{{- end }}
{{- if not $v.admin.existingSecret }}
---
{{ include "trainyard.bootstrap" (dict "c" $c) }}
{{- end }}
{{- end }}
{{- if and (eq $c.service "trainer") $v.jobs.enabled }}
---
{{ include "trainyard.jobs.rights" (dict "c" $c) }}
{{- end }}
{{- end }}

{{/* What makes and ends jobs, in their own namespace, and nothing else there. */}}
{{- define "trainyard.jobs.rights" -}}
{{- $c := .c }}
{{- $namespace := $c.v.jobs.namespace | default $c.Release.Namespace }}
{{- $name := print $c.fullname "-jobs" }}
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ $name }}
  namespace: {{ $namespace }}
  labels:
    {{- include "trainyard.labels" (dict "c" $c "component" "reconcile") | trim | nindent 4 }}
rules:
  - {apiGroups: [batch], resources: [jobs], verbs: [create, get, list, watch, delete]}
  - {apiGroups: [""], resources: [services], verbs: [create, get, delete]}
  - {apiGroups: [""], resources: [pods], verbs: [get, list, watch]}
  - {apiGroups: [""], resources: [pods/log], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ $name }}
  namespace: {{ $namespace }}
  labels:
    {{- include "trainyard.labels" (dict "c" $c "component" "reconcile") | trim | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ $name }}}
subjects:
  - {kind: ServiceAccount, name: {{ $name }}, namespace: {{ $c.Release.Namespace }}}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "trainyard.metadata" (dict "c" $c "component" "reconcile" "name" $name) | trim | nindent 2 }}
  {{- with $c.v.serviceAccount.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- end }}

{{/* All that a service's own chart renders; inside the suite's chart, that one does it. */}}
{{- define "trainyard.alone" -}}
{{- if not (dig "trainyard" "suite" false (.Values.global | default dict)) }}
{{- $c := dict }}
{{- $_ := include "trainyard.context" (dict "chart" . "into" $c) }}
{{- include "trainyard.service" (dict "c" $c) }}
{{- end }}
{{- end }}
