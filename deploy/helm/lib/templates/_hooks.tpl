{{/*
Jobs around install and upgrade, and what they need. They come before everything else of the release, so what they need
comes as hooks too, and goes when all have succeeded. Each can be run again: it makes what is missing.

  -20  service accounts, rights and network policies of the Jobs
  -15  keys      Secrets and the ConfigMap that every pod mounts
  -10  prepare   database, roles and schemas, where an administrator's address is given
   -5  migrate   each service's schema
*/}}
{{- define "trainyard.hook" -}}
helm.sh/hook: {{ .events | default "pre-install,pre-upgrade" }}
helm.sh/hook-weight: {{ .weight | quote }}
helm.sh/hook-delete-policy: before-hook-creation{{ if .passing }},hook-succeeded{{ end }}
{{- end }}

{{- define "trainyard.hook.metadata" -}}
{{ include "trainyard.metadata" . }}
annotations:
  {{- include "trainyard.hook" (dict "weight" .weight "passing" .passing "events" .events) | trim | nindent 2 }}
{{- end }}

{{/* .c, .component, .name, .weight; .pod: the pod's spec. Tried again until it succeeds, for some minutes. */}}
{{- define "trainyard.job" -}}
apiVersion: batch/v1
kind: Job
metadata:
  {{- include "trainyard.hook.metadata" . | trim | nindent 2 }}
spec:
  backoffLimit: 6
  activeDeadlineSeconds: {{ .deadline | default 600 }}
  template:
    metadata:
      labels:
        {{- include "trainyard.selector" . | trim | nindent 8 }}
        app.kubernetes.io/part-of: {{ .c.partOf }}
    spec:
      restartPolicy: Never
      {{- .pod | trim | nindent 6 }}
{{- end }}

{{/* A service account, and a network policy with DNS and what `.egress` says. .c, .component, .name */}}
{{- define "trainyard.hook.account" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "trainyard.hook.metadata" (merge (dict "weight" "-20" "passing" true) .) | trim | nindent 2 }}
automountServiceAccountToken: false
{{- end }}

{{- define "trainyard.hook.policy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "trainyard.hook.metadata" (merge (dict "weight" "-20" "passing" true) .) | trim | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      app.kubernetes.io/instance: {{ .c.Release.Name }}
      app.kubernetes.io/component: {{ .component }}
      app.kubernetes.io/part-of: {{ .c.partOf }}
  policyTypes: [Ingress, Egress]
  ingress: []
  egress:
    {{- .egress | trim | nindent 4 }}
{{- end }}

{{/*
The Job that makes keys. .c: the context of a service whose image is used, .named: name → Secret, .name: of the Job and
all it needs, .random: further arguments, for Secrets with random parts.
*/}}
{{- define "trainyard.keys" -}}
{{- $c := .c }}
{{- $own := dict "c" $c "component" "keys" "name" .name }}
{{- $secrets := concat (values .named) (.made | default list) | uniq | sortAlpha }}
{{- $public := include "trainyard.key.public" $c }}
{{- $args := list "cluster" (print "--public=" $public) }}
{{- range $name := keys .named | sortAlpha }}
{{- $args = append $args (printf "%s=%s" $name (index $.named $name)) }}
{{- end }}
{{ include "trainyard.hook.account" $own }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  {{- include "trainyard.hook.metadata" (merge (dict "weight" "-20" "passing" true) $own) | trim | nindent 2 }}
rules:
  # Who may create cannot be held to names.
  - {apiGroups: [""], resources: [secrets, configmaps], verbs: [create]}
  - {apiGroups: [""], resources: [secrets], resourceNames: {{ toJson $secrets }}, verbs: [get]}
  - {apiGroups: [""], resources: [configmaps], resourceNames: [{{ $public }}], verbs: [get, update]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  {{- include "trainyard.hook.metadata" (merge (dict "weight" "-20" "passing" true) $own) | trim | nindent 2 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ .name }}}
subjects:
  - {kind: ServiceAccount, name: {{ .name }}, namespace: {{ $c.Release.Namespace }}}
{{- if $c.v.networkPolicy.enabled }}
---
{{ include "trainyard.hook.policy" (merge (dict "egress" (include "trainyard.egress.api" $c)) $own) }}
{{- end }}
---
{{- $pod := include "trainyard.keys.pod" (dict "c" $c "name" .name "args" (concat $args (.random | default list))) }}
{{ include "trainyard.job" (merge (dict "weight" "-15" "pod" $pod) $own) }}
{{- end }}

{{- define "trainyard.keys.pod" -}}
{{- include "trainyard.pod.head" (dict "c" .c "account" .name "token" true) }}
containers:
  - name: keys
    image: {{ include "trainyard.image.of" .c }}
    imagePullPolicy: {{ .c.v.image.pullPolicy }}
    command: [python, -m, kit, keys]
    args:
      {{- toYaml .args | nindent 6 }}
    securityContext:
      {{- include "trainyard.security.container" . | trim | nindent 6 }}
    resources:
      {{- toYaml .c.v.migrate.resources | nindent 6 }}
{{- end }}

{{/* The account and the policy of Jobs that ask nothing but the database. .c, .name */}}
{{- define "trainyard.migrate.account" -}}
{{- $own := dict "c" .c "component" "migrate" "name" .name }}
{{ include "trainyard.hook.account" $own }}
{{- if .c.v.networkPolicy.enabled }}
---
{{- $egress := print (include "trainyard.egress.dns" .c) "\n" (include "trainyard.egress.database" .c) }}
{{ include "trainyard.hook.policy" (merge (dict "egress" $egress) $own) }}
{{- end }}
{{- end }}

{{/* .c, .account */}}
{{- define "trainyard.migrate" -}}
{{- $c := .c }}
{{- $own := dict "c" $c "component" "migrate" "name" (print $c.fullname "-migrate") }}
{{- $pod := include "trainyard.task.pod" (dict "c" $c "account" .account "name" "migrate" "args" (list "migrate" "--wait=120")) }}
{{ include "trainyard.job" (merge (dict "weight" "-5" "pod" $pod) $own) }}
{{- end }}

{{/* A pod that runs one command of a service and ends. .c, .account, .token, .name, .args, .init */}}
{{- define "trainyard.task.pod" -}}
{{- $own := dict "c" .c "component" .name "name" .name "args" .args "resources" .c.v.migrate.resources }}
{{- include "trainyard.pod.head" . }}
{{- if .init }}
initContainers:
  {{- include "trainyard.migrate.init" $own | trim | nindent 2 }}
{{- end }}
containers:
  - {{ include "trainyard.container" $own | nindent 4 | trim }}
    volumeMounts:
      - name: tmp
        mountPath: /tmp
volumes:
  - name: tmp
    emptyDir: {sizeLimit: 64Mi}
{{- end }}

{{/* The first administrator, once the gateway's tables are there. */}}
{{- define "trainyard.admin.secret" -}}
{{ .v.admin.existingSecret | default (printf "%s-admin" .partOf) }}
{{- end }}

{{- define "trainyard.bootstrap" -}}
{{- $c := .c }}{{- $name := print $c.fullname "-bootstrap" }}
{{- $own := dict "c" $c "component" "bootstrap" "name" $name }}
{{- $secret := include "trainyard.admin.secret" $c }}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "trainyard.metadata" $own | trim | nindent 2 }}
automountServiceAccountToken: false
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  {{- include "trainyard.metadata" $own | trim | nindent 2 }}
rules:
  - {apiGroups: [""], resources: [secrets], verbs: [create]}
  - {apiGroups: [""], resources: [secrets], resourceNames: [{{ $secret }}], verbs: [get, update]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  {{- include "trainyard.metadata" $own | trim | nindent 2 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ $name }}}
subjects:
  - {kind: ServiceAccount, name: {{ $name }}, namespace: {{ $c.Release.Namespace }}}
{{- if $c.v.networkPolicy.enabled }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "trainyard.metadata" $own | trim | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "trainyard.selector" $own | trim | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress: []
  egress:
    {{- include "trainyard.egress.dns" $c | trim | nindent 4 }}
    {{- include "trainyard.egress.database" $c | trim | nindent 4 }}
    {{- include "trainyard.egress.api" $c | trim | nindent 4 }}
{{- end }}
---
{{- $url := $c.v.bootstrap.url | default (printf "http://%s:8000" $c.fullname) }}
{{- $args := list "bootstrap" (print "--secret=" $secret) (print "--url=" $url) }}
{{- $pod := include "trainyard.task.pod" (dict "c" $c "account" $name "token" true "name" "bootstrap" "args" $args "init" (eq $c.v.migrate.mode "init")) }}
{{ include "trainyard.job" (merge (dict "weight" "0" "events" "post-install,post-upgrade" "pod" $pod) $own) }}
{{- end }}
