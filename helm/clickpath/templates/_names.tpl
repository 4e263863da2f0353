{{/* Names, labels and images. */}}

{{- define "clickpath.name" -}}
{{- if contains "clickpath" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-clickpath" (.Release.Name | trunc 30 | trimSuffix "-") -}}
{{- end -}}
{{- end }}

{{/* The labels that select the pods of a component: (list . "worker"). */}}
{{- define "clickpath.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: clickpath
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "clickpath.labels" -}}
{{- $root := index . 0 -}}
{{ include "clickpath.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* A reference to an image: (list . .Values.image). */}}
{{- define "clickpath.image" -}}
{{- $root := index . 0 -}}{{- $image := index . 1 -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default $root.Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* Workers with a disk or a name of their own are a StatefulSet. */}}
{{- define "clickpath.kind" -}}
{{- if or (eq .Values.worker.store "rocksdb") .Values.worker.staticMembership }}StatefulSet{{ else }}Deployment{{ end -}}
{{- end }}

{{/* Whether there is a volume of models. */}}
{{- define "clickpath.models" -}}
{{- $triton := and .Values.triton.enabled (not .Values.triton.repository) -}}
{{- if or .Values.models.existingClaim $triton .Values.trainer.enabled }}yes{{ end -}}
{{- end }}

{{/* Whether workers follow the versions on it; a model on Triton is not one of them. */}}
{{- define "clickpath.versions" -}}
{{- if and (include "clickpath.models" .) (not .Values.triton.enabled) }}yes{{ end -}}
{{- end }}
