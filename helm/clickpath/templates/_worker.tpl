{{/* The worker's settings, as variables of its environment. */}}

{{- define "clickpath.worker.env" -}}
{{- $worker := .Values.worker -}}
{{ include "clickpath.kafka.env" . }}
- {name: CLICKPATH_WEB_HOST, value: 0.0.0.0}
- {name: CLICKPATH_DELIVERY, value: {{ $worker.delivery }}}
{{- if not (hasKey $worker.settings "LOG_FORMAT") }}
- {name: CLICKPATH_LOG_FORMAT, value: json}
{{- end }}
{{- if $worker.policy }}
- {name: CLICKPATH_POLICY, value: /etc/clickpath/policy/policy.yaml}
{{- end }}
{{- if eq $worker.store "rocksdb" }}
- {name: CLICKPATH_STORE, value: rocksdb}
- {name: CLICKPATH_STORE_DIR, value: /var/lib/clickpath}
{{- end }}
{{- if $worker.standbyReplicas }}
- {name: CLICKPATH_STANDBY_REPLICAS, value: {{ $worker.standbyReplicas | quote }}}
{{- end }}
{{- if $worker.staticMembership }}
- name: CLICKPATH_INSTANCE_ID
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- end }}
{{- with include "clickpath.versions.env" . }}
{{ . }}
{{- end }}
{{- if .Values.archive.enabled }}
- {name: CLICKPATH_ARCHIVE, value: /archive}
{{- end }}
{{- with .Values.triton }}
{{- if .enabled }}
{{- if .tls.clientSecret }}
- {name: CLICKPATH_TRITON_CA_FILE, value: /etc/clickpath/triton/ca.crt}
- {name: CLICKPATH_TRITON_CERT_FILE, value: /etc/clickpath/triton/tls.crt}
- {name: CLICKPATH_TRITON_KEY_FILE, value: /etc/clickpath/triton/tls.key}
{{- end }}
{{- if .adminKey.secret }}
- {name: CLICKPATH_TRITON_ADMIN_KEY_FILE, value: /etc/clickpath/triton/admin-key}
{{- end }}
{{- end }}
{{- end }}
{{- range $setting, $file := $worker.secretFiles }}
- {name: CLICKPATH_{{ $setting }}, value: /etc/clickpath/secrets/{{ $setting }}}
{{- end }}
{{- range $setting, $value := $worker.settings }}
- {name: CLICKPATH_{{ $setting }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{/* Where versions of the model are, for the workers and for `clickpath models` in the trainer. */}}
{{- define "clickpath.versions.env" -}}
{{- with .Values.triton }}
{{- if .enabled }}
- {name: CLICKPATH_TRITON_URL, value: "{{ include "clickpath.name" $ }}-triton:8001"}
- {name: CLICKPATH_TRITON_MODEL, value: {{ .model }}}
{{- end }}
{{- end }}
{{- if include "clickpath.versions" . }}
- {name: CLICKPATH_MODEL_REPOSITORY, value: /models/{{ ternary "triton" "versions" .Values.triton.enabled }}}
{{- end }}
{{- end }}

{{/* The secrets of the way to Triton as one volume, or nothing. */}}
{{- define "clickpath.triton.sources" -}}
{{- with .Values.triton }}
{{- if and .enabled .tls.clientSecret }}
- secret: {name: {{ .tls.clientSecret }}}
{{- end }}
{{- if and .enabled .adminKey.secret }}
- secret:
    name: {{ .adminKey.secret }}
    items: [{key: {{ .adminKey.key }}, path: admin-key}]
{{- end }}
{{- end }}
{{- end }}
