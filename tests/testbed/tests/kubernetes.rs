//! Control planes start, keep what they are given, and leave nothing behind, however they end.
#![allow(clippy::disallowed_methods, reason = "a real cluster takes real time")]

use microscaler_testbed::{ControlPlane, marked};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_mins(1);
const EVERYTHING_OF_CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn create_config_map(kubernetes: &ControlPlane, name: &str) {
    kubernetes.kubectl(&["create", "configmap", name, "--from-literal=key=value"]).unwrap();
}

fn names(kubernetes: &ControlPlane, kind: &str) -> Vec<String> {
    let printed = kubernetes.kubectl(&["get", kind, "-o", "name"]).unwrap();
    printed.lines().map(ToOwned::to_owned).collect()
}

/// The version that a list is of.
fn list_version(kubernetes: &ControlPlane) -> String {
    let list: Value = serde_json::from_str(&kubernetes.kubectl(&["get", "--raw", EVERYTHING_OF_CONFIG_MAPS]).unwrap()).unwrap();
    list["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

/// What a watch from that version tells within a second: an event a line.
fn watch(kubernetes: &ControlPlane, version: &str) -> String {
    let path = format!("{EVERYTHING_OF_CONFIG_MAPS}?watch=1&resourceVersion={version}&timeoutSeconds=1");
    kubernetes.kubectl(&["get", "--raw", &path]).unwrap_or_else(|error| format!("{error:#}"))
}

fn restart_api_server(kubernetes: &ControlPlane) {
    kubernetes.api_server().kill();
    kubernetes.api_server().start().unwrap();
    kubernetes.wait_until_ready().unwrap();
}

fn wait_until_nothing_is_left(id: &str, directory: &Path) {
    let deadline = Instant::now() + LIMIT;
    while directory.exists() || !marked::processes(id).is_empty() {
        assert!(Instant::now() < deadline, "left: {:?}", marked::processes(id));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_control_plane_serves_and_leaves_nothing() {
    let kubernetes = ControlPlane::start().unwrap();
    let (id, directory) = (kubernetes.id().to_owned(), kubernetes.directory().to_owned());
    let namespaces = names(&kubernetes, "namespaces");
    assert!(namespaces.contains(&"namespace/default".to_owned()), "{namespaces:?}");
    kubernetes.kubectl(&["create", "namespace", "shop"]).unwrap();
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a", "namespace": "shop" }, "data": { "k": "v" } });
    kubernetes.apply(&map.to_string()).unwrap();
    assert_eq!(kubernetes.kubectl(&["get", "configmap", "a", "-n", "shop", "-o", "jsonpath={.data.k}"]).unwrap(), "v");
    assert_eq!(kubernetes.helm(&["list", "--short"]).unwrap(), "");
    let error = format!("{:#}", kubernetes.kubectl(&["get", "no-such-kind"]).unwrap_err());
    assert!(error.starts_with("kubectl get no-such-kind: exit status: 1\n") && error.contains("doesn't have"), "{error}");

    let mut watching = kubernetes.kubectl_command(&["get", "namespaces", "--watch"]).stdout(Stdio::null()).spawn().unwrap();
    assert_eq!(marked::processes(&id).len(), 3);
    drop(kubernetes);
    assert_eq!(marked::processes(&id), []);
    assert!(!directory.exists());
    watching.wait().unwrap();
}

#[test]
fn a_restarted_server_has_kept_everything() {
    let kubernetes = ControlPlane::start().unwrap();
    let url = kubernetes.url();
    create_config_map(&kubernetes, "before");
    kubernetes.api_server().kill();
    assert!(kubernetes.kubectl(&["get", "namespaces"]).is_err());
    kubernetes.etcd().kill();
    let error = format!("{:#}", kubernetes.wait_until_ready().unwrap_err());
    assert!(error.contains("etcd (ENDED)") && error.contains("api-server (ENDED)"), "{error}");
    kubernetes.etcd().start().unwrap();
    kubernetes.api_server().start().unwrap();
    kubernetes.wait_until_ready().unwrap();
    assert_eq!(kubernetes.url(), url);
    assert_eq!(names(&kubernetes, "configmaps"), ["configmap/before"]);

    kubernetes.api_server().stop().unwrap();
    assert!(kubernetes.kubectl(&["get", "namespaces", "--request-timeout", "1s"]).is_err());
    kubernetes.api_server().resume().unwrap();
    kubernetes.wait_until_ready().unwrap();
}

#[test]
fn a_service_account_may_do_what_a_role_grants() {
    let kubernetes = ControlPlane::start().unwrap();
    for arguments in [&["create", "namespace", "shop"][..], &["create", "serviceaccount", "clerk", "-n", "shop"]] {
        kubernetes.kubectl(arguments).unwrap();
    }
    let kubeconfig = kubernetes.kubeconfig_for("shop", "clerk").unwrap();
    // The namespace is the file's own.
    let list = ["get", "configmaps", "--kubeconfig", kubeconfig.to_str().unwrap()];
    let error = format!("{:#}", kubernetes.kubectl(&list).unwrap_err());
    assert!(error.contains("Forbidden") && error.contains("system:serviceaccount:shop:clerk"), "{error}");

    kubernetes.kubectl(&["create", "role", "reader", "-n", "shop", "--verb=list", "--resource=configmaps"]).unwrap();
    let bind = ["create", "rolebinding", "reader", "-n", "shop", "--role=reader", "--serviceaccount=shop:clerk"];
    kubernetes.kubectl(&bind).unwrap();
    // The authorizer learns of it by a watch.
    let deadline = Instant::now() + LIMIT;
    while let Err(error) = kubernetes.kubectl(&list) {
        assert!(Instant::now() < deadline, "{error:#}");
    }
    assert!(kubernetes.kubeconfig_for("shop", "nobody").is_err());
}

#[test]
fn what_is_compacted_away_is_gone() {
    let kubernetes = ControlPlane::start().unwrap();
    let old = list_version(&kubernetes);
    create_config_map(&kubernetes, "a");
    let exact = format!("{EVERYTHING_OF_CONFIG_MAPS}?resourceVersion={old}&resourceVersionMatch=Exact");
    assert!(kubernetes.kubectl(&["get", "--raw", &exact]).is_ok());
    assert!(watch(&kubernetes, &old).contains(r#""type":"ADDED""#));

    kubernetes.compact().unwrap();
    kubernetes.compact().unwrap();
    restart_api_server(&kubernetes);
    let told = watch(&kubernetes, &old);
    assert!(told.contains(r#""code":410"#) && told.contains("too old resource version"), "{told}");
    let error = format!("{:#}", kubernetes.kubectl(&["get", "--raw", &exact]).unwrap_err());
    assert!(error.contains("Expired"), "{error}");
    // From now on it is as ever.
    let new = list_version(&kubernetes);
    create_config_map(&kubernetes, "b");
    assert!(watch(&kubernetes, &new).contains(r#""type":"ADDED""#));
}

#[test]
fn several_run_at_the_same_time() {
    let start = || ControlPlane::start().unwrap();
    let [first, second] =
        std::thread::scope(|scope| [scope.spawn(start), scope.spawn(start)].map(|thread| thread.join().unwrap()));
    create_config_map(&first, "only-here");
    assert_eq!((names(&first, "configmaps").len(), names(&second, "configmaps").len()), (1, 0));
}

/// Ended with the test that holds it, however that ends.
struct Owner(Child);

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `kubernetes-local`, what it says about itself, and the mark of its processes.
fn start_local(options: &[&str]) -> (Owner, Value, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubernetes-local"));
    let child = command.args(options).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut owner = Owner(child);
    let mut line = String::new();
    BufReader::new(owner.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let about: Value = serde_json::from_str(&line).unwrap();
    let mark = format!("{}-{}-0", Path::new(about["directory"].as_str().unwrap()).file_name().unwrap().display(), owner.0.id());
    assert_eq!(marked::processes(&mark).len(), 2);
    (owner, about, mark)
}

#[test]
fn an_owner_that_is_killed_leaves_nothing() {
    let (owner, about, mark) = start_local(&[]);
    // What it tells is enough for anybody to use it.
    let mut kubectl = Command::new(about["kubectl"].as_str().unwrap());
    let output = kubectl.args(["get", "namespaces"]).env("KUBECONFIG", about["kubeconfig"].as_str().unwrap()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    drop(owner);
    wait_until_nothing_is_left(&mark, Path::new(about["directory"].as_str().unwrap()));
}

#[test]
fn kubernetes_local_ends_with_its_standard_input() {
    let (mut owner, about, mark) = start_local(&["--until-stdin-closes"]);
    drop(owner.0.stdin.take());
    assert!(owner.0.wait().unwrap().success());
    assert_eq!(marked::processes(&mark), []);
    assert!(!fs::exists(about["directory"].as_str().unwrap()).unwrap());
}
