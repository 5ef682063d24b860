{{/* How the API is reached: one address for all pods; the pods' own for the gateway; and all pods' metrics. */}}
{{- define "trainyard.service.objects" -}}
{{- $c := .c }}
{{- $api := dict "c" $c "component" "api" }}
apiVersion: v1
kind: Service
metadata:
  {{- include "trainyard.metadata" (merge (dict "name" $c.fullname) $api) | trim | nindent 2 }}
spec:
  type: ClusterIP
  selector:
    {{- include "trainyard.selector" $api | trim | nindent 4 }}
  ports:
    - {name: http, port: 8000, targetPort: http, protocol: TCP}
{{- if ne $c.service "gateway" }}
---
apiVersion: v1
kind: Service
metadata:
  {{- include "trainyard.metadata" (merge (dict "name" (print $c.fullname "-endpoints")) $api) | trim | nindent 2 }}
spec:
  type: ClusterIP
  clusterIP: None
  publishNotReadyAddresses: false
  selector:
    {{- include "trainyard.selector" $api | trim | nindent 4 }}
  ports:
    - {name: http, port: 8000, targetPort: http, protocol: TCP}
{{- end }}
---
apiVersion: v1
kind: Service
metadata:
  {{- include "trainyard.metadata" (dict "c" $c "component" "metrics" "name" (print $c.fullname "-metrics")) | trim | nindent 2 }}
spec:
  type: ClusterIP
  clusterIP: None
  publishNotReadyAddresses: true
  selector:
    app.kubernetes.io/name: {{ $c.service }}
    app.kubernetes.io/instance: {{ $c.Release.Name }}
  ports:
    - {name: metrics, port: 8000, targetPort: {{ ternary "metrics" "http" (not (empty $c.facts.metrics)) }}, protocol: TCP}
{{- end }}

{{- define "trainyard.monitor" -}}
{{- $c := .c }}
{{- $own := dict "c" $c "component" "metrics" }}
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ $c.fullname }}
  namespace: {{ $c.Release.Namespace }}
  labels:
    {{- include "trainyard.labels" $own | trim | nindent 4 }}
    {{- with $c.v.serviceMonitor.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  selector:
    matchLabels:
      {{- include "trainyard.selector" $own | trim | nindent 6 }}
  endpoints:
    - port: metrics
      path: /metrics
      interval: {{ $c.v.serviceMonitor.interval }}
      relabelings:
        - {sourceLabels: [__meta_kubernetes_pod_label_app_kubernetes_io_component], targetLabel: component}
        - {sourceLabels: [__meta_kubernetes_pod_label_app_kubernetes_io_name], targetLabel: service}
{{- end }}

{{- define "trainyard.ingress" -}}
{{- $c := .c }}{{- $values := $c.v.ingress }}
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  {{- include "trainyard.metadata" (dict "c" $c "component" "api" "name" $c.fullname) | trim | nindent 2 }}
  {{- with $values.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with $values.className }}
  ingressClassName: {{ . }}
  {{- end }}
  {{- with $values.tls }}
  tls:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  rules:
    {{- range $values.hosts | default (list "") }}
    - http:
        paths:
          - path: /
            pathType: Prefix
            backend:
              service:
                name: {{ $c.fullname }}
                port: {name: http}
      {{- with . }}
      host: {{ . | quote }}
      {{- end }}
    {{- end }}
{{- end }}

{{- define "trainyard.route" -}}
{{- $c := .c }}{{- $values := $c.v.httpRoute }}
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  {{- include "trainyard.metadata" (dict "c" $c "component" "api" "name" $c.fullname) | trim | nindent 2 }}
  {{- with $values.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  parentRefs:
    {{- toYaml $values.parentRefs | nindent 4 }}
  {{- with $values.hostnames }}
  hostnames:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  rules:
    - matches:
        - path: {type: PathPrefix, value: /}
      {{- with $values.timeouts }}
      timeouts:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      backendRefs:
        - {group: "", kind: Service, name: {{ $c.fullname }}, port: 8000, weight: 1}
{{- end }}
