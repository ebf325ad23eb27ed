//! An API server that is away, hangs, or has too much to do.

use std::process::Stdio;
use std::time::{Duration, Instant};

use microscaler::api::status::Phase;
use microscaler::kubernetes::schedule::Limits;
use tokio::time::sleep;

use super::fixture::{Rig, control_plane, converged};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_outage_the_newest_is_written() {
    let plane = control_plane();
    let rig = Rig::new(&plane).await;
    let mut apps = Vec::new();
    for n in 0..10 {
        apps.push(rig.app(&format!("a{n}")).await);
    }
    apps.iter().for_each(|app| rig.engine.judge(app, |_| {}));
    rig.until("a9", |status| status.wanted == 5).await;
    rig.quiet().await;
    let count = || rig.count("microscaler_status_writes_total{result=\"failed\"}");
    for halted in [false, true] {
        let (begun, before) = (Instant::now(), count());
        if halted {
            plane.api_server().stop().unwrap();
        } else {
            plane.api_server().kill();
        }
        for running in 0..60 {
            let running = running + if halted { 100 } else { 0 };
            apps.iter().for_each(|app| rig.engine.judge(app, |status| status.running = running));
            sleep(Duration::from_millis(100)).await;
        }
        let phase = if halted { Phase::Converged } else { Phase::Shrinking };
        apps.iter().for_each(|app| rig.engine.judge(app, |status| status.phase = Some(phase)));
        let (failed, lasted) = (count() - before, begun.elapsed());
        println!("{lasted:.0?} of an outage (halted: {halted}): {failed} writes failed");
        if halted {
            plane.api_server().resume().unwrap();
        } else {
            plane.api_server().start().unwrap();
        }
        tokio::task::block_in_place(|| plane.wait_until_ready()).unwrap();
        let (begun, before) = (Instant::now(), rig.written());
        let expected = if halted { 159 } else { 59 };
        for n in 0..10 {
            rig.until(&format!("a{n}"), |status| status.running == expected && status.phase == Some(phase)).await;
        }
        println!("caught up {:.1?} after it was ready, with {} writes", begun.elapsed(), rig.written() - before);
        // Those under way at its beginning, and then one at a time with pauses; without these it would be twenty a second.
        assert!(failed <= 20 + 2 * lasted.as_secs(), "{failed} in {lasted:.0?}");
    }
    rig.end().await;
}

const NO_ROOM: &str = r#"
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: PriorityLevelConfiguration
metadata: {name: nothing}
spec: {type: Limited, limited: {nominalConcurrencyShares: 0, borrowingLimitPercent: 0, limitResponse: {type: Reject}}}
---
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: FlowSchema
metadata: {name: no-room}
spec:
  priorityLevelConfiguration: {name: nothing}
  matchingPrecedence: 2
  rules:
  - subjects: [{kind: ServiceAccount, serviceAccount: {name: operator, namespace: default}}]
    resourceRules:
    - {verbs: [patch], apiGroups: [microscaling.dev], resources: [microscaledapps/status], namespaces: ["*"]}
    - {verbs: [create], apiGroups: [""], resources: [configmaps], namespaces: ["*"]}
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_has_too_much_to_do_is_left_alone() {
    let plane = control_plane();
    plane.kubectl(&["create", "serviceaccount", "operator"]).unwrap();
    let grant = ["create", "clusterrolebinding", "o", "--clusterrole=cluster-admin", "--serviceaccount=default:operator"];
    plane.kubectl(&grant).unwrap();
    let kubeconfig = plane.kubeconfig_for("default", "operator").unwrap();
    let rig = Rig::with(&plane, &kubeconfig, Limits::default()).await;
    rig.lead();
    let a = rig.app("a").await;
    rig.engine.judge(&a, |_| {});
    rig.until("a", |status| status.wanted == 5).await;
    plane.apply(NO_ROOM).unwrap();
    // A level without room serves one request at a time: this one, whose body does not come.
    let path = format!("/api/v1/namespaces/{}/configmaps", rig.namespace);
    let mut hog = plane.kubectl_command(&["create", "--raw", &path, "-f", "-", "--kubeconfig", kubeconfig.to_str().unwrap()]);
    let mut hog = hog.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    sleep(Duration::from_secs(2)).await;
    let failed = || rig.count("microscaler_status_writes_total{result=\"failed\"}");
    let (begun, before) = (Instant::now(), failed());
    for running in 0..80 {
        rig.engine.judge(&a, |status| status.running = running);
        sleep(Duration::from_millis(100)).await;
    }
    let (refused, lasted) = (failed() - before, begun.elapsed());
    println!("{lasted:.0?} of 429: {refused} tries, of {} changes", 80);
    // The server asks for a second between two.
    assert!((1..=lasted.as_secs() + 5).contains(&refused), "{refused} in {lasted:.0?}");
    assert_eq!(rig.status("a").await.running, 0);
    hog.kill().unwrap();
    hog.wait().unwrap();
    let begun = Instant::now();
    rig.engine.judge(&a, converged);
    rig.until("a", |status| status.phase == Some(Phase::Converged)).await;
    println!("written {:.1?} after that was over", begun.elapsed());
    rig.end().await;
}
