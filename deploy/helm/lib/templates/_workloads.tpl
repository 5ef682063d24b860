{{/* A Deployment. .c, .component: api, reconcile or runner */}}
{{- define "trainyard.deployment" -}}
{{- $c := .c }}{{- $v := $c.v }}{{- $component := .component }}{{- $values := index $v $component }}
{{- $own := dict "c" $c "component" $component "name" (print $c.fullname "-" $component) }}
{{- $image := "" }}{{- $command := list }}
{{- if eq $component "runner" }}
{{- $image = include "trainyard.image" (dict "image" (mergeOverwrite (deepCopy $v.image) (dict "digest" $values.image.digest)) "name" $values.image.name "version" $c.Chart.AppVersion) }}
{{- end }}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "trainyard.metadata" $own | trim | nindent 2 }}
spec:
  {{- if not (dig "autoscaling" "enabled" false $values) }}
  replicas: {{ int $values.replicas }}
  {{- end }}
  revisionHistoryLimit: 3
  minReadySeconds: {{ int $v.minReadySeconds }}
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  selector:
    matchLabels:
      {{- include "trainyard.selector" $own | trim | nindent 6 }}
  template:
    metadata:
      labels:
        {{- with $values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- include "trainyard.selector" $own | trim | nindent 8 }}
        app.kubernetes.io/part-of: {{ $c.partOf }}
      {{- with $values.podAnnotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      {{- include "trainyard.pod.head" (dict "c" $c "account" (include "trainyard.account" $own) "token" (include "trainyard.token" $own) "seccomp" $values.seccompProfile) | trim | nindent 6 }}
      terminationGracePeriodSeconds: {{ include "trainyard.termination" $c }}
      {{- with $values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- if eq $component "runner" }}
      # What a program leaves behind is reaped by the pod's first process.
      shareProcessNamespace: true
      {{- end }}
      {{- if and (eq $v.migrate.mode "init") (ne $component "runner") }}
      initContainers:
        {{- include "trainyard.migrate.init" $own | trim | nindent 8 }}
      {{- end }}
      containers:
        - {{ include "trainyard.container" (dict "c" $c "component" $component "name" $component "args" (list $component) "image" $image "resources" $values.resources) | nindent 10 | trim }}
          ports:
            {{- if and $c.facts.metrics (eq $component "reconcile") }}
            - {name: metrics, containerPort: 8000, protocol: TCP}
            {{- else }}
            - {name: http, containerPort: 8000, protocol: TCP}
            {{- end }}
            {{- if and $c.facts.metrics (eq $component "api") }}
            - {name: metrics, containerPort: {{ $c.facts.metrics }}, protocol: TCP}
            {{- end }}
          {{- include "trainyard.probes" 8000 | trim | nindent 10 }}
          volumeMounts:
            {{- include "trainyard.mounts" $c | trim | nindent 12 }}
      volumes:
        {{- include "trainyard.volumes" (dict "c" $c "values" $values) | trim | nindent 8 }}
      {{- if $v.topologySpread.enabled }}
      topologySpreadConstraints:
        {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
        - maxSkew: 1
          topologyKey: {{ . }}
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "trainyard.selector" $own | trim | nindent 14 }}
          matchLabelKeys: [pod-template-hash]
        {{- end }}
      {{- end }}
      {{- with $values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
{{- end }}

{{/* Who a pod is: a runner is nobody, and who may make jobs shares its name with nobody else. */}}
{{- define "trainyard.account" -}}
{{- $suffix := ternary "-runner" "" (eq .component "runner") }}
{{- if include "trainyard.token" . }}{{ $suffix = "-jobs" }}{{ end }}
{{- print .c.fullname $suffix }}
{{- end }}

{{/* Whether pods of this kind ask the API server: the trainer's reconciler alone, and only where jobs are Kubernetes'. */}}
{{- define "trainyard.token" -}}
{{- if and (eq .c.service "trainer") (eq .component "reconcile") (dig "jobs" "enabled" false .c.v) }}true{{ end }}
{{- end }}

{{- define "trainyard.autoscaler" -}}
{{- $c := .c }}{{- $values := $c.v.api.autoscaling }}
{{- $name := print $c.fullname "-api" }}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "trainyard.metadata" (dict "c" $c "component" "api" "name" $name) | trim | nindent 2 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ $name }}}
  minReplicas: {{ int $values.minReplicas }}
  maxReplicas: {{ int $values.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target: {type: Utilization, averageUtilization: {{ int $values.targetCPUUtilizationPercentage }}}
  behavior:
    scaleDown:
      stabilizationWindowSeconds: 300
{{- end }}

{{/* One pod at a time: with a single replica a node can still be drained. */}}
{{- define "trainyard.budget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "trainyard.metadata" . | trim | nindent 2 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "trainyard.selector" . | trim | nindent 6 }}
{{- end }}
