//! What installs the operator on Kubernetes: the chart, the manifests rendered from it, and what tells Argo CD and Flux the health of
//! apps and pools. A real API server judges the objects, Helm and kustomize are the real ones, and so is the interpreter of Argo CD.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use microscaler_testbed::{ControlPlane, install_kubernetes};
use serde_json::{Value, json};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/microscaler");
const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests");
const NAMESPACE: &str = "microscaler-system";

/// Values that turn everything on.
const FULL: &str = r#"
replicas: 3
image: {repository: shop/microscaler, digest: "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", pullSecrets: [{name: pull}]}
fullnameOverride: scaler
watchNamespaces: [shop, depot]
selector: shard in (a, b)
pushToken: {value: "a token"}
ipv6: true
serviceAccount: {annotations: {a: b}}
rbac: {secrets: {names: [mesos, metrics]}}
service: {type: NodePort, port: 80, annotations: {a: b}}
networkPolicy: {from: [{namespaceSelector: {matchLabels: {a: b}}, podSelector: {}}, {ipBlock: {cidr: 10.0.0.0/8}}]}
serviceMonitor: {enabled: true, labels: {release: prometheus}}
podAnnotations: {a: b}
podLabels: {a: b}
nodeSelector: {kubernetes.io/os: linux}
tolerations: [{operator: Exists}]
affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: []}}
topologySpreadConstraints: [{maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: ScheduleAnyway}]
priorityClassName: system-cluster-critical
extraArgs: ["--fresh"]
extraEnv: [{name: SSL_CERT_FILE, value: /etc/ca/ca.crt}]
extraVolumes: [{name: ca, configMap: {name: ca}}]
extraVolumeMounts: [{name: ca, mountPath: /etc/ca, readOnly: true}]
"#;

/// What a program prints, or else what it complains of.
fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(install_kubernetes().unwrap().join(program)).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stdout) + &text(output.stderr)) }
}

fn render(arguments: &[&str]) -> Result<String, String> {
    run("helm", &[&["template", "microscaler", CHART, "--namespace", NAMESPACE], arguments].concat())
}

/// The objects of a YAML stream by kind, namespace and name.
fn objects(yaml: &str) -> BTreeMap<String, Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    let all = all.into_iter().filter(|object| !object.is_null()).map(|object| (id(&object), object));
    all.collect()
}

fn id(object: &Value) -> String {
    let part = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!("{} {}/{}", part(&object["kind"]), part(&object["metadata"]["namespace"]), part(&object["metadata"]["name"]))
}

fn object(yaml: &str, id: &str) -> Value {
    objects(yaml).remove(id).unwrap_or_else(|| panic!("no {id}"))
}

/// Without what only Helm reads.
fn without_helm(mut object: Value) -> Value {
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata["labels"].as_object_mut().unwrap().retain(|key, _| key != "helm.sh/chart" && key != "app.kubernetes.io/managed-by");
    metadata.remove("annotations");
    object
}

fn values(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, text).unwrap();
    file
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

// ---- the chart by itself ----

#[test]
fn the_chart_holds_what_the_program_is() {
    let chart: Value = serde_saphyr::from_str(&fs::read_to_string(format!("{CHART}/Chart.yaml")).unwrap()).unwrap();
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    let rendered = objects(&render(&[]).unwrap());
    for file in ["microscaledapps.yaml", "microscalingpools.yaml"] {
        let original = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("crds").join(file)).unwrap();
        let copy = fs::read_to_string(format!("{CHART}/files/crds/{file}")).unwrap();
        assert!(copy == original, "the chart's copy of crds/{file} is out of date, run: make crds");

        let mut original: Value = serde_saphyr::from_str(&original).unwrap();
        let rendered = &rendered[&id(&original)];
        assert_eq!(rendered["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
        original["metadata"] = rendered["metadata"].clone();
        assert_eq!(*rendered, original);
    }
}

#[test]
fn lint_finds_nothing() {
    let full = values(FULL);
    for arguments in [&[][..], &["--values", path(&full)]] {
        let said = run("helm", &[&["lint", "--strict", CHART], arguments].concat()).unwrap();
        assert!(said.contains("0 chart(s) failed"), "{said}");
    }
}

#[test]
fn the_manifests_are_the_chart() {
    let rendered = objects(&render(&[]).unwrap()).into_iter().map(|(id, object)| (id, without_helm(object)));
    let mut kustomized = objects(&run("kubectl", &["kustomize", &format!("{MANIFESTS}/install")]).unwrap());
    let namespace = kustomized.remove(&format!("Namespace /{NAMESPACE}")).unwrap();
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
    assert!(kustomized == rendered.collect(), "manifests/install is out of date, run: make install-manifests");
}

#[test]
fn bad_values_are_refused_with_clear_words() {
    let table = [
        ("replica=3", "additional properties 'replica' not allowed"),
        ("replicas=0", "at '/replicas': minimum: got 0, want 1"),
        ("replicas=two", "at '/replicas': got string, want integer"),
        ("image.tag=a b", "at '/image/tag': 'a b' does not match pattern"),
        ("image.digest=0123", "at '/image/digest': '0123' does not match pattern"),
        ("image.pullPolicy=Sometimes", "at '/image/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'"),
        ("watchNamespaces=shop", "at '/watchNamespaces': got string, want array"),
        ("watchNamespaces={Shop}", "at '/watchNamespaces/0': 'Shop' does not match pattern"),
        ("rbac.secrets=true", "at '/rbac/secrets': got boolean, want object"),
        ("rbac.secrets.names={mesos,mesos}", "at '/rbac/secrets/names': items at 0 and 1 are equal"),
        ("networkPolicy.from={shop}", "at '/networkPolicy/from/0': got string, want object"),
        ("terminationGracePeriodSeconds=5", "at '/terminationGracePeriodSeconds': minimum: got 5, want 10"),
        ("resources.cpu=1", "at '/resources': additional properties 'cpu' not allowed"),
        ("podAnnotations.a=1", "at '/podAnnotations/a': got number, want string"),
        ("pushToken.value=a,pushToken.existingSecret=b", "pushToken: give value or existingSecret, not both"),
        ("serviceAccount.create=false", "serviceAccount.name must name an account that exists"),
    ];
    for (values, expected) in table {
        let said = render(&["--set", values]).expect_err(values);
        assert!(said.contains(expected), "{values}: {said}");
    }
}

/// Lint tells of values that the schema lacks; this is the other direction.
#[test]
fn the_values_name_all_that_the_schema_knows() {
    let read = |file| fs::read_to_string(format!("{CHART}/{file}")).unwrap();
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let values: Value = serde_saphyr::from_str(&read("values.yaml")).unwrap();
    let nested = ["image", "pushToken", "crds", "serviceAccount", "rbac", "service", "networkPolicy", "serviceMonitor"];
    let nested = nested.iter().map(|name| (&values[*name], &schema["properties"][*name]));
    let nested = nested.chain([(&values["rbac"]["secrets"], &schema["properties"]["rbac"]["properties"]["secrets"])]);
    for (values, schema) in nested.chain([(&values, &schema)]) {
        for name in schema["properties"].as_object().unwrap().keys().filter(|name| *name != "global") {
            assert!(values.get(name).is_some(), "values.yaml lacks {name}");
        }
    }
}

#[test]
fn values_end_up_where_they_count() {
    let full = values(FULL);
    let yaml = render(&["--values", path(&full)]).unwrap();
    let deployment = object(&yaml, &format!("Deployment {NAMESPACE}/scaler"));
    let pod = &deployment["spec"]["template"]["spec"];
    let arguments = json!([
        "operator",
        "--namespace=shop,depot",
        "--selector=shard in (a, b)",
        "--listen=[::]:8910",
        "--advertise=http://[$(POD_IP)]:8910",
        "--lease-name=scaler",
        "--lease-namespace=$(POD_NAMESPACE)",
        "--push-token-file=/etc/microscaler/push-token/token",
        "--status-writes-per-second=50",
        "--log=info",
        "--log-format=json",
        "--fresh",
    ]);
    assert_eq!(pod["containers"][0]["args"], arguments);
    let spread = &pod["topologySpreadConstraints"][0];
    assert_eq!(spread["labelSelector"]["matchLabels"], deployment["spec"]["selector"]["matchLabels"]);
    assert_eq!(object(&yaml, &format!("Secret {NAMESPACE}/scaler-push-token"))["data"]["token"], "YSB0b2tlbg==");
    let roles: Vec<_> = objects(&yaml).into_keys().filter(|id| id.contains("Role")).collect();
    let expected = [
        "ClusterRole /scaler:microscaler-system:admin",
        "ClusterRole /scaler:microscaler-system:edit",
        "ClusterRole /scaler:microscaler-system:view",
        "Role depot/scaler:microscaler-system",
        "Role microscaler-system/scaler-leases",
        "Role shop/scaler:microscaler-system",
        "RoleBinding depot/scaler:microscaler-system",
        "RoleBinding microscaler-system/scaler-leases",
        "RoleBinding shop/scaler:microscaler-system",
    ];
    assert_eq!(roles, expected);

    let existing = render(&["--set", "pushToken.existingSecret=mine,pushToken.key=push,replicas=1"]).unwrap();
    let pod = &object(&existing, &format!("Deployment {NAMESPACE}/microscaler"))["spec"]["template"]["spec"];
    assert_eq!(pod["volumes"][0]["secret"]["secretName"], "mine");
    assert!(pod["containers"][0]["args"].to_string().contains("--push-token-file=/etc/microscaler/push-token/push"));
    let kinds: Vec<_> = objects(&existing).into_keys().collect();
    assert!(!kinds.iter().any(|id| id.starts_with("Secret") || id.starts_with("PodDisruptionBudget")), "{kinds:?}");
}

/// The arguments as Kubernetes gives them to the program: with the variables put in.
fn arguments(container: &Value) -> Vec<String> {
    let variables = container["env"].as_array().unwrap().iter().map(|variable| variable["name"].as_str().unwrap());
    let variables: Vec<_> = variables.collect();
    let ip = if container["args"].to_string().contains("[::]") { "fd00::7" } else { "10.0.0.7" };
    let of = |argument: &Value| {
        let text = variables.iter().fold(argument.as_str().unwrap().to_owned(), |text, name| {
            text.replace(&format!("$({name})"), if *name == "POD_IP" { ip } else { "value" })
        });
        assert!(!text.contains("$("), "{text}: there is no such variable");
        text
    };
    container["args"].as_array().unwrap().iter().map(of).collect()
}

#[test]
fn the_program_understands_what_the_chart_tells_it() {
    let microscaler = |arguments: &[String]| {
        let output = Command::new(env!("CARGO_BIN_EXE_microscaler")).args(arguments).arg("--help").output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let full = values(FULL);
    for (set, name) in [(&[][..], "microscaler"), (&["--values", path(&full)], "scaler")] {
        let deployment = object(&render(set).unwrap(), &format!("Deployment {NAMESPACE}/{name}"));
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        let mut arguments = arguments(container);
        let (understood, help, complaint) = microscaler(&arguments);
        assert!(understood, "{arguments:?}: {complaint}");
        arguments.push("--no-such-thing".to_owned());
        assert!(!microscaler(&arguments).0, "what comes before --help is judged");

        // Each variable is meant for something: an argument, the program, or a library of it.
        let read = include_str!("../src/cli/operator.rs");
        for variable in container["env"].as_array().unwrap() {
            let name = variable["name"].as_str().unwrap();
            let is_known = container["args"].to_string().contains(&format!("$({name})"))
                || read.contains(&format!("var(\"{name}\")"))
                || help.contains(&format!("[env: {name}="))
                || name == "SSL_CERT_FILE";
            assert!(is_known, "nobody reads {name}");
        }
    }
}

/// Which rights are added to those that Kubernetes gives to people.
#[test]
fn those_who_edit_apps_need_not_be_trusted_with_pools() {
    let rendered = render(&[]).unwrap();
    let roles = objects(&rendered).into_values().filter(|object| object["kind"] == "ClusterRole");
    let roles: Vec<_> = roles.collect();
    let of = |who: &str| {
        let label = format!("rbac.authorization.k8s.io/aggregate-to-{who}");
        let rules = roles.iter().filter(|role| role["metadata"]["labels"][&label] == "true");
        let rules = rules.flat_map(|role| role["rules"].as_array().unwrap());
        let strings = |value: &Value| value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect();
        let rights = rules.flat_map(|rule| {
            let (resources, verbs): (Vec<String>, Vec<String>) = (strings(&rule["resources"]), strings(&rule["verbs"]));
            let of = move |resource: String| verbs.clone().into_iter().map(move |verb| format!("{verb} {resource}"));
            resources.into_iter().flat_map(of)
        });
        rights.collect::<BTreeSet<_>>()
    };
    let all = |verbs: &[&str], resources: &[&str]| {
        let of = |resource: &&str| verbs.iter().map(|verb| format!("{verb} {resource}")).collect::<Vec<_>>();
        resources.iter().flat_map(of).collect::<BTreeSet<_>>()
    };
    let (apps, pools) = ("microscaledapps", "microscalingpools");
    let shown = [apps, "microscaledapps/scale", "microscaledapps/status", pools, "microscalingpools/status"];
    let changes = ["create", "update", "patch", "delete", "deletecollection"];
    let view = all(&["get", "list", "watch"], &shown);
    let edit = &(&view | &all(&changes, &[apps])) | &all(&["update", "patch"], &["microscaledapps/scale"]);
    let admin = &edit | &all(&changes, &[pools]);
    assert_eq!((of("view"), of("edit"), of("admin")), (view, edit, admin));
}

/// No Docker is needed to see that cargo understands what .dockerignore lets through.
#[test]
fn the_image_is_built_from_all_that_cargo_asks_for() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let context = tempfile::tempdir().unwrap();
    let ignored = fs::read_to_string(root.join(".dockerignore")).unwrap();
    for kept in ignored.lines().filter_map(|line| line.strip_prefix('!')) {
        let (from, to) = (root.join(kept), context.path().join(kept));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        if from.is_dir() {
            copy_directory(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
    let cargo = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(&context)
        .output();
    let cargo = cargo.unwrap();
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
}

// ---- what a real API server says ----

/// What would be applied is accepted without a warning.
fn dry_run(kubernetes: &ControlPlane, yaml: &str) -> anyhow::Result<String> {
    let arguments = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--warnings-as-errors", "-f", "-"];
    kubernetes.kubectl_with(&arguments, yaml)
}

#[test]
fn an_api_server_takes_all_of_it_at_the_restricted_level_of_pod_security() {
    let kubernetes = ControlPlane::start().unwrap();
    kubernetes.apply(&fs::read_to_string(format!("{MANIFESTS}/install/namespace.yaml")).unwrap()).unwrap();
    for namespace in ["shop", "depot"] {
        kubernetes.kubectl(&["create", "namespace", namespace]).unwrap();
    }
    // No more of the Prometheus operator than the kind.
    let monitors = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "servicemonitors.monitoring.coreos.com"},
        "spec": {
            "group": "monitoring.coreos.com", "scope": "Namespaced",
            "names": {"kind": "ServiceMonitor", "plural": "servicemonitors", "singular": "servicemonitor"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    });
    kubernetes.apply(&monitors.to_string()).unwrap();
    kubernetes.kubectl(&["wait", "--for=condition=Established", "crd/servicemonitors.monitoring.coreos.com"]).unwrap();

    let full = values(FULL);
    let sets: [&[&str]; 5] = [
        &[],
        &["--values", path(&full)],
        &["--set", "replicas=1,pushToken.existingSecret=mine,crds.install=false,rbac.aggregateRoles=false"],
        &["--set", "serviceAccount.create=false,serviceAccount.name=mine,rbac.create=false,networkPolicy.enabled=false"],
        &["--set", "rbac.secrets.all=true,ipv6=true,podDisruptionBudget.enabled=false"],
    ];
    for set in sets {
        dry_run(&kubernetes, &render(set).unwrap()).unwrap();
    }
    dry_run(&kubernetes, &run("kubectl", &["kustomize", &format!("{MANIFESTS}/install")]).unwrap()).unwrap();

    let mut deployment = object(&render(&[]).unwrap(), &format!("Deployment {NAMESPACE}/microscaler"));
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "microscaler", "namespace": NAMESPACE},
        "spec": deployment["spec"]["template"]["spec"],
    });
    dry_run(&kubernetes, &pod.to_string()).unwrap();
    deployment["spec"]["template"]["spec"]["securityContext"] = json!({});
    let refused = dry_run(&kubernetes, &deployment.to_string()).unwrap_err().to_string();
    assert!(refused.contains("would violate PodSecurity \"restricted:latest\""), "{refused}");
}

/// Whether the account may do each of these: VERB RESOURCE NAMESPACE, with the resource as GROUP/RESOURCE/SUBRESOURCE:NAME.
fn may(kubernetes: &ControlPlane, kubeconfig: &Path, questions: &[&str]) -> Vec<String> {
    let review = |question: &&str| {
        let [verb, resource, namespace] = question.split(' ').collect::<Vec<_>>()[..] else { panic!("{question}") };
        let (resource, name) = resource.split_once(':').unwrap_or((resource, ""));
        let mut parts = resource.split('/');
        let mut part = || parts.next().unwrap_or_default();
        let attributes = json!({
            "verb": verb, "group": part(), "resource": part(), "subresource": part(), "name": name, "namespace": namespace,
        });
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}})
    };
    let reviews: Vec<_> = questions.iter().map(|question| review(question).to_string()).collect();
    let output = r#"jsonpath={.status.allowed}{"\n"}"#;
    let arguments = ["--kubeconfig", kubeconfig.to_str().unwrap(), "create", "--validate=false", "-o", output, "-f", "-"];
    let answers = kubernetes.kubectl_with(&arguments, &reviews.join("\n---\n")).unwrap();
    let answers: Vec<_> = answers.lines().collect();
    assert_eq!(answers.len(), questions.len());
    let allowed = questions.iter().zip(answers).filter(|(_, answer)| *answer == "true");
    allowed.map(|(question, _)| (*question).to_owned()).collect()
}

#[test]
fn the_operator_may_do_what_it_does_and_no_more() {
    let kubernetes = ControlPlane::start().unwrap();
    for namespace in ["shop", "depot", "other"] {
        kubernetes.kubectl(&["create", "namespace", namespace]).unwrap();
        for secret in ["mesos", "other"] {
            kubernetes.kubectl(&["create", "secret", "generic", secret, "--namespace", namespace]).unwrap();
        }
    }
    let install = |release: &str, set: &str| {
        let options = ["--create-namespace", "--set", "crds.install=false", "--set", set];
        let said = kubernetes.helm(&[&["install", release, CHART, "--namespace", NAMESPACE], &options[..]].concat()).unwrap();
        let (_, notes) = said.split_once("\nNOTES:\n").unwrap();
        print!("{notes}"); // to be read, with --nocapture
        let long: Vec<_> = notes.lines().filter(|line| line.chars().count() > 80).collect();
        assert_eq!(long, [""; 0], "the notes fit into 80 columns");
    };
    install("microscaler", "rbac.aggregateRoles=true");
    install("named", "watchNamespaces={shop,depot},rbac.secrets.names={mesos}");
    install("all", "rbac.secrets.all=true,pushToken.value=token");

    let mut verbs = Vec::new();
    for resource in [
        "microscaling.dev/microscaledapps",
        "microscaling.dev/microscaledapps/status",
        "microscaling.dev/microscaledapps/scale",
        "microscaling.dev/microscalingpools",
        "microscaling.dev/microscalingpools/status",
        "events.k8s.io/events",
        "/events",
        "/secrets",
        "/secrets:mesos",
        "/secrets:other",
        "/configmaps",
        "/pods",
        "apps/deployments",
    ] {
        for verb in ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"] {
            verbs.extend(["shop", "other"].map(|namespace| format!("{verb} {resource} {namespace}")));
        }
    }
    for namespace in [NAMESPACE, "shop"] {
        for lease in ["", ":microscaler", ":named-microscaler"] {
            for verb in ["get", "list", "watch", "create", "update", "patch", "delete"] {
                verbs.push(format!("{verb} coordination.k8s.io/leases{lease} {namespace}"));
            }
        }
    }
    let questions: Vec<_> = verbs.iter().map(String::as_str).collect();

    let objects = [
        "list microscaling.dev/microscaledapps",
        "watch microscaling.dev/microscaledapps",
        "patch microscaling.dev/microscaledapps",
        "patch microscaling.dev/microscaledapps/status",
        "get microscaling.dev/microscalingpools",
        "list microscaling.dev/microscalingpools",
        "watch microscaling.dev/microscalingpools",
        "patch microscaling.dev/microscalingpools",
        "patch microscaling.dev/microscalingpools/status",
        "create events.k8s.io/events",
        "patch /events",
    ];
    let one = ["get /secrets:mesos", "list /secrets:mesos", "watch /secrets:mesos"];
    let all = ["", ":mesos", ":other"].map(|name| ["get", "list", "watch"].map(|verb| format!("{verb} /secrets{name}")));
    let all: Vec<_> = all.iter().flatten().map(String::as_str).collect();
    let both = ["shop", "other"];
    let table: [(&str, &[&str], &[&str]); 3] =
        [("microscaler", &[], &both), ("named-microscaler", &one, &["shop"]), ("all-microscaler", &all, &both)];
    for (account, secrets, namespaces) in table {
        let kubeconfig = kubernetes.kubeconfig_for(NAMESPACE, account).unwrap();
        let mut expected: Vec<String> = Vec::new();
        for right in objects.iter().chain(secrets) {
            expected.extend(namespaces.iter().map(|namespace| format!("{right} {namespace}")));
        }
        // Of leases, only its own; what does not exist yet has no name, and so create is for all names.
        for lease in ["", ":microscaler", ":named-microscaler"] {
            expected.push(format!("create coordination.k8s.io/leases{lease} {NAMESPACE}"));
            let is_own = lease.strip_prefix(':') == Some(account);
            let verbs: &[&str] = if is_own { &["get", "list", "watch", "update"] } else { &[] };
            expected.extend(verbs.iter().map(|verb| format!("{verb} coordination.k8s.io/leases{lease} {NAMESPACE}")));
        }
        let mut allowed = may(&kubernetes, &kubeconfig, &questions);
        allowed.sort();
        expected.sort();
        assert_eq!(allowed, expected, "{account}");
    }

    // A right to one name suffices for a list, and so for a watch, that asks for this name alone.
    let named = kubernetes.kubeconfig_for(NAMESPACE, "named-microscaler").unwrap();
    let secrets = ["--kubeconfig", named.to_str().unwrap(), "get", "secrets", "--namespace", "shop"];
    let one = [&secrets[..], &["--field-selector", "metadata.name=mesos", "-o", "name"]].concat();
    assert_eq!(kubernetes.kubectl(&one).unwrap(), "secret/mesos\n");
    kubernetes.kubectl(&secrets).unwrap_err();
}

#[test]
fn an_upgrade_brings_new_definitions_and_an_uninstall_keeps_them() {
    let kubernetes = ControlPlane::start().unwrap();
    let older = tempfile::tempdir().unwrap();
    copy_directory(Path::new(CHART), older.path());
    let definition = older.path().join("files/crds/microscaledapps.yaml");
    let text = fs::read_to_string(&definition).unwrap();
    let text = text.replace("    shortNames:\n    - msa\n", "");
    fs::write(&definition, text).unwrap();

    let helm = |arguments: &[&str]| kubernetes.helm(&[arguments, &["--namespace", NAMESPACE]].concat());
    let short_names = || {
        let path = "jsonpath={.spec.names.shortNames}";
        kubernetes.kubectl(&["get", "crd", "microscaledapps.microscaling.dev", "-o", path]).unwrap()
    };
    helm(&["install", "microscaler", older.path().to_str().unwrap(), "--create-namespace"]).unwrap();
    assert_eq!(short_names(), "");
    helm(&["upgrade", "microscaler", CHART]).unwrap();
    assert_eq!(short_names(), r#"["msa"]"#);
    helm(&["uninstall", "microscaler"]).unwrap();
    assert_eq!(short_names(), r#"["msa"]"#);

    // They are taken over by another release, if one says so.
    helm(&["install", "again", CHART]).unwrap_err();
    helm(&["install", "again", CHART, "--take-ownership"]).unwrap();
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target: PathBuf = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

// ---- the health of apps and pools ----

/// An object that has been judged, with these conditions true and all others false.
fn judged(kind: &str, conditions: &str, patch: Value) -> Value {
    let all = ["Ready", "Reconciling", "Stalled", "DemandAvailable", "CapacityLimited", "GivingWay", "Connected"];
    let condition = |name: &&str| {
        let status = if conditions.split(' ').any(|set| set == *name) { "True" } else { "False" };
        json!({"type": name, "status": status, "reason": "Because"})
    };
    let conditions: Vec<_> = all.iter().map(condition).collect();
    let (spec, reason) = match kind {
        "MicroscaledApp" => (json!({"minReplicas": 2, "mode": "Enforce"}), "reason"),
        _ => (json!({"mesos": {}}), "message"),
    };
    let mut object = json!({
        "apiVersion": "microscaling.dev/v1alpha1", "kind": kind, "metadata": {"name": "a", "generation": 3}, "spec": spec,
        "status": {"observedGeneration": 3, "granted": 5, "ready": 5, reason: "the \"words\"", "conditions": conditions},
    });
    merge(&mut object, patch);
    object
}

fn merge(into: &mut Value, patch: Value) {
    match patch {
        Value::Object(patch) if into.is_object() => patch.into_iter().for_each(|(key, value)| merge(&mut into[key], value)),
        patch => *into = patch,
    }
}

/// Objects with what Argo CD and Flux make of them.
fn apps() -> Vec<(Value, &'static str, &'static str)> {
    let app = |conditions: &str, patch: Value| judged("MicroscaledApp", conditions, patch);
    let phase = |conditions: &str, phase: &str| app(conditions, json!({"status": {"phase": phase}}));
    let stale = |state: &str, value: Value| {
        app(
            "Ready",
            json!({"status": {"phase": "Stale", "demand": [{"name": "a", "state": "Fresh", "value": 1}, {"name": "b", "state": state, "value": value}]}}),
        )
    };
    let short = |granted: i64, ready: i64, conditions: &str| {
        app(conditions, json!({"status": {"phase": "CapacityLimited", "granted": granted, "ready": ready}}))
    };
    vec![
        (phase("Ready DemandAvailable", "Converged"), "Healthy", "current"),
        (phase("Ready Reconciling DemandAvailable", "Shrinking"), "Progressing", "inProgress"),
        (phase("Reconciling DemandAvailable", "Growing"), "Progressing", "inProgress"),
        // Not ready by itself, though it runs.
        (app("DemandAvailable", json!({"status": {"phase": "Converged", "ready": 4}})), "Progressing", "none"),
        (phase("Ready DemandAvailable GivingWay", "GivingWay"), "Healthy", "current"),
        (phase("DemandAvailable GivingWay CapacityLimited", "GivingWay"), "Healthy", "current"),
        (phase("Reconciling DemandAvailable GivingWay CapacityLimited", "GivingWay"), "Progressing", "inProgress"),
        (short(5, 5, "DemandAvailable CapacityLimited"), "Healthy", "current"),
        (short(2, 2, "DemandAvailable CapacityLimited"), "Healthy", "current"),
        (short(5, 4, "DemandAvailable CapacityLimited"), "Progressing", "none"),
        (short(1, 1, "DemandAvailable CapacityLimited"), "Degraded", "none"),
        (short(1, 0, "DemandAvailable CapacityLimited Reconciling"), "Progressing", "inProgress"),
        (phase("Stalled Reconciling DemandAvailable", "Failed"), "Degraded", "failed"),
        (phase("Ready Stalled DemandAvailable", "Converged"), "Degraded", "failed"),
        (phase("Ready", "Suspended"), "Suspended", "current"),
        (phase("", "Suspended"), "Suspended", "current"),
        (app("", json!({"spec": {"mode": "Observe"}, "status": {"phase": "Growing", "ready": 0}})), "Suspended", "current"),
        (stale("Stale", json!(7)), "Degraded", "current"),
        (stale("Stale", Value::Null), "Progressing", "current"),
        (stale("Failed", Value::Null), "Degraded", "current"),
        // The spec is newer than what is known of it.
        (app("Ready", json!({"metadata": {"generation": 4}, "status": {"phase": "Converged"}})), "Progressing", "inProgress"),
        (app("Stalled", json!({"metadata": {"generation": 4}, "status": {"phase": "Failed"}})), "Progressing", "inProgress"),
        (app("", json!({"status": {"observedGeneration": -1, "conditions": []}})), "Progressing", "inProgress"),
        // As it is stored before the operator has seen it.
        (app("", json!({"status": {"observedGeneration": -1, "conditions": Value::Null}})), "Progressing", "inProgress"),
        // Flux does not ask about what is being deleted.
        (
            app("Ready", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Shrinking"}})),
            "Progressing",
            "current",
        ),
    ]
}

fn pools() -> Vec<(Value, &'static str)> {
    let pool = |conditions: &str, patch: Value| judged("MicroscalingPool", conditions, patch);
    vec![
        (pool("Ready Connected", json!({})), "Healthy"),
        (pool("Connected", json!({})), "Progressing"),
        (pool("", json!({})), "Progressing"),
        (pool("Stalled", json!({})), "Degraded"),
        (pool("Stalled Connected", json!({})), "Degraded"),
        (pool("Ready", json!({"metadata": {"generation": 4}})), "Progressing"),
        (pool("Ready", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})), "Progressing"),
        (pool("", json!({"status": {"observedGeneration": -1, "conditions": Value::Null}})), "Progressing"),
    ]
}

fn gitops(file: &str) -> BTreeMap<String, Value> {
    objects(&fs::read_to_string(format!("{MANIFESTS}/gitops/{file}")).unwrap())
}

#[test]
fn argo_cd_tells_the_health_of_apps_and_pools() {
    let apps = apps().into_iter().map(|(object, health, _)| (object, health));
    for (object, expected) in apps.chain(pools()) {
        let (health, message) = argo_cd(&object);
        assert_eq!(health, expected, "{message}: {object:#}");
        let own = ["being deleted", "not judged yet", "not looked at yet", "the \"words\""];
        assert!(own.contains(&&*message), "{message}: {object:#}");
    }
}

/// Runs the check as Argo CD does: with the same interpreter, and without the libraries that are not there.
fn argo_cd(object: &Value) -> (String, String) {
    let checks = gitops("argocd/argocd-cm.yaml").remove("ConfigMap argocd/argocd-cm").unwrap();
    let key = format!("resource.customizations.health.microscaling.dev_{}", object["kind"].as_str().unwrap());
    let check = checks["data"][&key].as_str().unwrap();
    let script = format!(
        "obj = {}
         local print, names = print, {{'string', 'math', 'io', 'os', 'debug', 'coroutine', 'channel'}}
         for _, name in ipairs(names) do _G[name] = nil end
         local function check()\n{check}\nend
         local health = check()
         print(health.status)
         print(health.message)",
        lua(object)
    );
    let file = values(&script);
    let said = run("glua", &[path(&file)]).unwrap();
    let (status, message) = said.trim_end().split_once('\n').expect(&said);
    (status.to_owned(), message.to_owned())
}

/// A value as Lua writes it.
fn lua(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Array(items) => format!("{{{}}}", items.iter().map(lua).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let fields = map.iter().map(|(key, value)| format!("[{key:?}] = {}", lua(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        plain => plain.to_string(),
    }
}

#[test]
fn flux_tells_the_health_of_apps() {
    let kustomization = gitops("flux/kustomization.yaml").remove("Kustomization flux-system/shop").unwrap();
    let expressions = &kustomization["spec"]["healthCheckExprs"][0];
    assert_eq!(
        (&expressions["apiVersion"], &expressions["kind"]),
        (&json!("microscaling.dev/v1alpha1"), &json!("MicroscaledApp"))
    );
    for (object, _, expected) in apps() {
        let mut context = cel::Context::default();
        object.as_object().unwrap().iter().for_each(|(name, value)| context.add_variable(name.clone(), value).unwrap());
        // In this order, and the first that is true counts.
        let is_true = |name: &&str| {
            let program = cel::Program::compile(expressions[*name].as_str().unwrap()).unwrap();
            program.execute(&context).unwrap_or_else(|error| panic!("{name}: {error}: {object:#}")) == cel::Value::Bool(true)
        };
        let health = ["inProgress", "failed", "current"].into_iter().find(is_true).unwrap_or("none");
        assert_eq!(health, expected, "{object:#}");
    }
}

#[test]
fn the_examples_leave_the_count_to_others() {
    let application = gitops("argocd/application.yaml").remove("Application argocd/shop").unwrap();
    let ignored = json!([{"group": "microscaling.dev", "kind": "MicroscaledApp", "jsonPointers": ["/spec/replicas"]}]);
    assert_eq!(application["spec"]["ignoreDifferences"], ignored);
    let options = application["spec"]["syncPolicy"]["syncOptions"].as_array().unwrap();
    assert!(["ServerSideApply=true", "RespectIgnoreDifferences=true"].iter().all(|option| options.contains(&json!(option))));
}
