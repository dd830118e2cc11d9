# What there is to do; how it is done stands in .ci/.
version := $(shell git describe --tags --always --dirty 2>/dev/null || echo unreleased)

build: ## the program
	go build -trimpath -ldflags "-X github.com/prometheus/common/version.Version=$(version)" -o docker_buildup_exporter .

test: ## all tests, also those on real engines; installs what they need
	.ci/test

demo: ## a private engine with buildup on it, the exporter, a Prometheus, an Alertmanager, a full disk, until Ctrl-C
	.ci/demo

bench: ## what watching costs an engine, beside plain listing; about an hour
	.ci/bench

exact: ## what cleanup commands free, beside what the page said before; an hour
	.ci/exact

simulate: ## the alerts on simulated disks of 30 days, ten years of hosts that never fill; some minutes
	.ci/simulate -disks 7 -v

bench-rules: ## what evaluating the rules costs for ten thousand hosts
	.ci/simulate -hosts 10000

image: ## build the image, and prove that it works
	.ci/image

update: ## what is generated: alert rules, dashboards, golden pages, the README's tables
	go test ./alerts -run Template -update
	go -C dashboards/generate run . ..
	go test ./collector/e2e ./collector/report -run 'Golden|Readme' -update

.PHONY: build test demo bench exact simulate bench-rules image update
