{{/* What pods have in common: who they run as, and how they reach the brokers. */}}

{{/*
The pod's part of the restricted Pod Security Standard: (list . uid). All have one group, for they
share volumes.
*/}}
{{- define "clickpath.pod" -}}
{{- $root := index . 0 -}}{{- $uid := index . 1 -}}
automountServiceAccountToken: false
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ $uid }}
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* The container's part of it. */}}
{{- define "clickpath.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "clickpath.spread" -}}
{{- $selector := include "clickpath.selector" . -}}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- $selector | nindent 8 }}
  {{- end }}
{{- end }}

{{- define "clickpath.kafka.env" -}}
{{- $kafka := .Values.kafka -}}
- {name: CLICKPATH_BOOTSTRAP_SERVERS, value: {{ $kafka.bootstrapServers | quote }}}
- {name: CLICKPATH_APP_ID, value: {{ $kafka.appId | quote }}}
- {name: CLICKPATH_SECURITY_PROTOCOL, value: {{ $kafka.securityProtocol }}}
{{- if hasPrefix "SASL" $kafka.securityProtocol }}
- {name: CLICKPATH_SASL_MECHANISM, value: {{ $kafka.sasl.mechanism }}}
- {name: CLICKPATH_SASL_USERNAME, value: {{ $kafka.sasl.username | quote }}}
- {name: CLICKPATH_SASL_PASSWORD_FILE, value: /etc/clickpath/kafka/password}
{{- end }}
{{- if hasSuffix "SSL" $kafka.securityProtocol }}
{{- if $kafka.tls.caSecret }}
- {name: CLICKPATH_SSL_CA_FILE, value: /etc/clickpath/kafka/ca.crt}
{{- end }}
{{- if $kafka.tls.clientSecret }}
- {name: CLICKPATH_SSL_CERT_FILE, value: /etc/clickpath/kafka/tls.crt}
- {name: CLICKPATH_SSL_KEY_FILE, value: /etc/clickpath/kafka/tls.key}
{{- end }}
{{- end }}
{{- end }}

{{/* The secrets of the way to the brokers as one volume, or nothing. */}}
{{- define "clickpath.kafka.sources" -}}
{{- $kafka := .Values.kafka -}}
{{- if hasPrefix "SASL" $kafka.securityProtocol }}
- secret:
    name: {{ $kafka.sasl.secret }}
    items: [{key: {{ $kafka.sasl.key }}, path: password}]
{{- end }}
{{- if hasSuffix "SSL" $kafka.securityProtocol }}
{{- if $kafka.tls.caSecret }}
- secret:
    name: {{ $kafka.tls.caSecret }}
    items: [{key: {{ $kafka.tls.caKey }}, path: ca.crt}]
{{- end }}
{{- if $kafka.tls.clientSecret }}
- secret:
    name: {{ $kafka.tls.clientSecret }}
    items: [{key: {{ $kafka.tls.certKey }}, path: tls.crt}, {key: {{ $kafka.tls.keyKey }}, path: tls.key}]
{{- end }}
{{- end }}
{{- end }}

{{- define "clickpath.kafka.volume" -}}
{{- with include "clickpath.kafka.sources" . }}
- name: kafka
  projected:
    defaultMode: 0440
    sources:
      {{- . | nindent 6 }}
{{- end }}
{{- end }}

{{- define "clickpath.kafka.mount" -}}
{{- if include "clickpath.kafka.sources" . }}
- {name: kafka, mountPath: /etc/clickpath/kafka, readOnly: true}
{{- end }}
{{- end }}

{{/* A volume claim as a volume: (list . "models"). */}}
{{- define "clickpath.claim" -}}
{{- $root := index . 0 -}}{{- $what := index . 1 -}}
{{- $own := printf "%s-%s" (include "clickpath.name" $root) $what -}}
- name: {{ $what }}
  persistentVolumeClaim:
    claimName: {{ (index $root.Values $what).existingClaim | default $own }}
{{- end }}
