# Build and test targets. The scripts are in .ci/, and .ci/README.md lists them.
version := $(shell git describe --tags --always --dirty 2>/dev/null || echo unreleased)

build: ## build the program
	go build -trimpath -ldflags "-X github.com/prometheus/common/version.Version=$(version)" -o docker_buildup_exporter .

test: unit integration ## run all tests, as root on Debian; installs what they need

unit: ## run the tests that start no engine
	.ci/unit

integration: ## run the tests on private engines
	.ci/integration

lint: ## check the source
	.ci/lint

faults: ## make what an engine, a proxy, a disk or a client can do wrong, and print a table with the results
	go test -C collector/e2e/faults -count=1 -run TestFaults -show
	go test -count=1 -v ./collector/e2e -run 'TestClientFaults|TestInvalidCommandLines|TestIdle|TestSilent|TestClientsThat|TestStderr|TestDiskFaults|TestHealthyWhile|TestEngineLifecycle|TestUpgrade'

soak: ## run the program for an hour with random faults and engine restarts; time=10m for less
	go test -count=1 -v ./collector/e2e/faults -run TestSoak -timeout 0 -soak $(or $(time),1h)

demo: ## start an engine with buildup, the exporter, Prometheus and an Alertmanager, until Ctrl-C
	.ci/demo

bench: ## measure what watching costs an engine; takes an hour
	.ci/bench

accuracy: ## compare what cleanup commands free with the metrics; takes two hours
	.ci/accuracy

simulate: ## evaluate the alerts on simulated disks and hosts; takes 2 minutes of CPU time
	.ci/simulate -causes
	.ci/simulate -set tuned -v

score-rules: ## score the alerts on disks that they were not tuned on; takes 8 minutes of CPU time
	.ci/simulate -set unseen -disks 4 -v

bench-rules: ## measure what evaluating the rules costs for ten thousand hosts
	.ci/simulate -hosts 10000

bench-dashboards: ## print the bytes and seconds of each query of the dashboards, for 300 and ten thousand hosts
	.ci/apt-install prometheus
	.ci/simulate -hosts 300 -dashboards dashboards
	.ci/simulate -hosts 10000 -dashboards dashboards

rulers: ## evaluate the alerts in Prometheus 2 and 3, vmalert and Thanos Rule
	.ci/test-rulers -v

image: ## build the image and test it
	.ci/test-image

update: ## what is generated: alert rules, dashboards, golden pages, the README's tables
	go test ./alerts -run Template -update
	go -C dashboards/generate run . ..
	go test ./collector/e2e ./collector/report -run 'Golden|Readme' -update

.PHONY: build test unit integration lint faults soak demo bench accuracy simulate score-rules bench-rules bench-dashboards rulers image update
