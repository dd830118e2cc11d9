// The alert rules and the dashboards as a monitoring mixin, over the generated files.
//   jsonnet -e '(import ".packaging/mixin.libsonnet").prometheusAlerts'
{
  grafanaDashboards+:: {
    'docker-buildup-fleet.json': import '../dashboards/docker-buildup-fleet.json',
    'docker-buildup-host.json': import '../dashboards/docker-buildup-host.json',
  },
  prometheusAlerts+:: std.parseYaml(importstr '../alerts/docker-buildup.yml'),
}
