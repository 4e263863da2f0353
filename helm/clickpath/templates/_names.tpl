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

{{/* Whether workers follow the versions on it: their own, or those that Triton reads there. */}}
{{- define "clickpath.versions" -}}
{{- $s3 := and .Values.triton.enabled .Values.triton.repository -}}
{{- if and (include "clickpath.models" .) (not $s3) }}yes{{ end -}}
{{- end }}

{{/* What the trainer is called with; a refresh is told where candidates of this release go. */}}
{{- define "clickpath.trainer.args" -}}
{{- $args := .Values.trainer.args -}}
{{- $triton := .Values.triton -}}
{{- if and (eq (first $args) "refresh") (include "clickpath.versions" .) -}}
{{- if $triton.enabled -}}
{{- $backend := ternary "onnxruntime" "python" (gt (int $triton.gpus) 0) -}}
{{- $args = concat $args (list "--triton=/models/triton" (printf "--name=%s" $triton.model) (printf "--backend=%s" $backend)) -}}
{{- else -}}
{{- $args = append $args "--repository=/models/versions" -}}
{{- end -}}
{{- end -}}
{{- toYaml $args -}}
{{- end }}
