{{- define "microscaler.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains "microscaler" .Release.Name -}}
{{- .Release.Name -}}
{{- else -}}
{{- printf "%s-microscaler" .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- /* For roles outside of the namespace of the release: releases of the same name must not share them. No namespace has a colon. */ -}}
{{- define "microscaler.roleName" -}}
{{- printf "%s:%s" (include "microscaler.fullname" .) .Release.Namespace -}}
{{- end }}

{{- define "microscaler.selectorLabels" -}}
app.kubernetes.io/name: microscaler
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "microscaler.labels" -}}
{{ include "microscaler.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "microscaler.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "microscaler.fullname" .) -}}
{{- else -}}
{{- required "serviceAccount.create is false: serviceAccount.name must name an account that exists" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "microscaler.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (.tag | default $.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- /* The Secret with the push token; empty where there is none. */ -}}
{{- define "microscaler.pushTokenSecret" -}}
{{- with .Values.pushToken -}}
{{- if and .value .existingSecret -}}
{{- fail "pushToken: give value or existingSecret, not both" -}}
{{- else if .value -}}
{{- printf "%s-push-token" (include "microscaler.fullname" $) -}}
{{- else -}}
{{- .existingSecret -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- /* What the operator does with the API server while it looks after apps and pools, and no more. */ -}}
{{- define "microscaler.rules" -}}
# patch is for finalizers: what users write is never changed.
- apiGroups: [microscaling.dev]
  resources: [microscaledapps, microscalingpools]
  verbs: [list, watch, patch]
# The id of a pool's framework is not taken from a watch, which may be late.
- apiGroups: [microscaling.dev]
  resources: [microscalingpools]
  verbs: [get]
- apiGroups: [microscaling.dev]
  resources: [microscaledapps/status, microscalingpools/status]
  verbs: [patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
# An event that is repeated gets the newest words, which the other group does not allow.
- apiGroups: [""]
  resources: [events]
  verbs: [patch]
{{- if .Values.rbac.metrics }}
# For demand of the kind kubernetes.
- apiGroups: [external.metrics.k8s.io, custom.metrics.k8s.io]
  resources: ["*"]
  verbs: [get, list]
{{- end }}
{{- with .Values.rbac.secrets }}
{{- if .all }}
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch]
{{- else if .names }}
- apiGroups: [""]
  resources: [secrets]
  resourceNames:
  {{- toYaml .names | nindent 2 }}
  verbs: [get, list, watch]
{{- end }}
{{- end }}
{{- end }}
