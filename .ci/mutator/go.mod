module docker_buildup_exporter/mutator

go 1.26.0
