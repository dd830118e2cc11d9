// The generator is a module of its own so that the exporter does not depend on the SDK.
module docker_buildup_exporter/dashboards/generate

go 1.26.0

require (
	docker_buildup_exporter v0.0.0
	github.com/grafana/grafana-foundation-sdk/go v0.0.22
)

require (
	github.com/prometheus/client_model v0.6.3 // indirect
	github.com/prometheus/common v0.73.1 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

replace docker_buildup_exporter => ../..
