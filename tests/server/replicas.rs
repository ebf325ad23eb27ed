//! Several servers, of which one leads.

use std::time::Duration;

use microscaler::api::validated::Key;
use microscaler::engine::leadership::{Leadership, Mandate, Role};
use microscaler::kubernetes::lease::Peer;
use microscaler::server::{Readiness, Replicas};
use reqwest::header::{AUTHORIZATION, HeaderMap};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use super::fixture::{Fixture, PATIENCE, Stream, Streamed, event, report};

/// A replica, and the ends of its election.
struct Replica {
    fixture: Fixture,
    role: watch::Sender<Role>,
    leader: watch::Sender<Option<Peer>>,
}

impl Replica {
    async fn new(identity: &str, push_token: Option<&str>, role: Role) -> Self {
        let (role, role_seen) = watch::channel(role);
        let (leader, leader_seen) = watch::channel(None);
        let replicas = Replicas::new(identity, Leadership::elected(role_seen, Mandate::default()), leader_seen).unwrap();
        let mut fixture = Fixture::with(push_token, Readiness::Pools, Some(replicas)).await;
        if let Some(token) = push_token {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, format!("Bearer {token}").parse().unwrap())]);
            fixture.client = Client::builder().default_headers(headers).build().unwrap();
        }
        Self { fixture, role, leader }
    }

    async fn leading(push_token: Option<&str>) -> Self {
        Self::new("a", push_token, Role::Leader { term: 1 }).await
    }

    /// Knows of apps, but has no word to say on them.
    async fn standing_by(identity: &str, push_token: Option<&str>, leader: impl Into<Option<Peer>>) -> Self {
        let replica = Self::new(identity, push_token, Role::Standby { leader: "a leads".into() }).await;
        replica.leader.send_replace(leader.into());
        for handle in replica.fixture.state.pools.list() {
            replica.fixture.state.pools.remove(&handle.pool);
        }
        replica
    }

    fn peer(&self) -> Peer {
        peer("a", Some(&self.fixture.url))
    }
}

fn peer(identity: &str, address: Option<&str>) -> Peer {
    Peer { identity: identity.to_owned(), address: address.map(str::to_owned) }
}

async fn refusal(response: Response) -> String {
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()), (503, "1"));
    response.json::<Value>().await.unwrap()["error"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_standby_has_the_leader_answer() {
    let leader = Replica::leading(None).await.fixture;
    let standby = Replica::standing_by("b", None, peer("a", Some(&leader.url))).await.fixture;
    for path in ["/v1/apps", "/v1/apps?namespace=none", "/v1/apps/shop/search", "/v1/pools", "/v1/nothing", "/v1/demand/a/b/c"] {
        let (told, original) = (standby.get(path).await, leader.get(path).await);
        assert_eq!(told.status(), original.status(), "{path}");
        assert_eq!(told.headers()["content-type"], original.headers()["content-type"], "{path}");
        assert_eq!(told.text().await.unwrap(), original.text().await.unwrap(), "{path}");
    }
    let head = async |fixture: &Fixture| fixture.client.head(format!("{}/v1/apps", fixture.url)).send().await.unwrap();
    let (told, original) = (head(&standby).await, head(&leader).await);
    assert_eq!(
        (told.status(), told.headers().get("content-length")),
        (original.status(), original.headers().get("content-length"))
    );
    assert_eq!(standby.json("/v1/apps").await["items"][0]["metadata"]["name"], "search");
    assert_eq!(standby.get("/healthz").await.text().await.unwrap(), "ok\n");
    assert_eq!(standby.get("/readyz").await.status(), 200);
    assert!(!standby.get("/metrics").await.text().await.unwrap().contains("pool_connected{"), "these are its own");
}

#[tokio::test]
async fn streams_pass_as_they_come() {
    let leader = Replica::leading(Some("secret")).await.fixture;
    let standby = Replica::standing_by("b", Some("secret"), peer("a", Some(&leader.url))).await.fixture;
    let mut events = Stream::open(&standby, "/v1/events").await;
    leader.engine.events.send(event("ScaledUp", Some("shop/search"))).unwrap();
    assert_eq!(events.next().await.unwrap().0, "ScaledUp");
    let mut watch = Stream::open(&standby, "/v1/watch").await;
    for tasks in [7, 8] {
        assert_eq!(watch.next().await.unwrap().1["pools"]["items"][0]["status"]["tasks"], tasks);
        leader.engine.reports.send_modify(|shown| {
            let mut next = report(&Key::new("shop", "main"), Vec::new());
            next.status.tasks = shown.status.tasks + 1;
            *shown = next.into();
        });
    }

    leader.board.changed().await;
    drop(leader.board.take());
    let stream = Streamed::open(&standby);
    for (line, expected) in [("1\n", 1.0), ("2\n", 2.0)] {
        stream.send(line);
        timeout(PATIENCE, leader.board.changed()).await.expect("a line had no effect before the body's end");
        assert_eq!(leader.taken(), Some(expected));
    }
    assert_eq!(stream.end().await, (200, json!({"accepted": 2})));
    assert_eq!(standby.push("shop/search/waiting", "3").await, (200, json!({"accepted": 1})));
    assert_eq!(leader.taken(), Some(3.0));
}

#[tokio::test]
async fn whoever_may_not_push_may_not_push_through_a_standby() {
    let leader = Replica::leading(None).await.fixture;
    let standby = Replica::standing_by("b", None, peer("a", Some(&leader.url))).await.fixture;
    let (status, body) = standby.push("shop/search/waiting", "1").await;
    assert_eq!((status, body["error"].as_str().unwrap().contains("forwarded the request")), (403, true), "{body}");
    assert_eq!(leader.push("shop/search/waiting", "1").await.0, 200);

    // The leader of this one has no token, and would take anything: it is not asked.
    let guarded = Replica::standing_by("b", Some("secret"), peer("a", Some(&leader.url))).await.fixture;
    for path in ["/v1/demand/shop/search/waiting", "/v1/drain/shop/main"] {
        let response = Client::new().post(format!("{}{path}", guarded.url)).bearer_auth("wrong").body("1").send().await.unwrap();
        assert_eq!(response.status(), 401);
        assert_eq!(response.json::<Value>().await.unwrap()["error"], "this is not the right token");
    }
}

#[tokio::test]
async fn without_a_leader_to_ask_the_client_is_told() {
    let nobody = Replica::standing_by("b", None, None).await.fixture;
    assert_eq!(refusal(nobody.get("/v1/apps").await).await, "no replica is known to lead; ask again");
    let silent = Replica::standing_by("b", None, peer("a", None)).await.fixture;
    assert_eq!(refusal(silent.get("/v1/apps").await).await, "a leads, but has not said where it is reached; ask it itself");
    let gone = Replica::standing_by("b", None, peer("a", Some("http://127.0.0.1:1"))).await.fixture;
    assert_eq!(
        refusal(gone.get("/v1/apps").await).await,
        "a leads, but cannot be asked at http://127.0.0.1:1: connection refused; ask again"
    );
}

#[tokio::test]
async fn two_that_each_think_the_other_leads_do_not_go_round_in_circles() {
    let one = Replica::standing_by("b", None, None).await;
    let other = Replica::standing_by("c", None, peer("b", Some(&one.fixture.url))).await;
    one.leader.send_replace(Some(peer("c", Some(&other.fixture.url))));
    assert_eq!(
        refusal(one.fixture.get("/v1/apps").await).await,
        "b has passed this on to a replica that does not lead either; ask again"
    );
}

#[tokio::test]
async fn streams_end_when_another_one_comes_to_lead() {
    let leader = Replica::leading(Some("secret")).await;
    let standby = Replica::standing_by("b", Some("secret"), leader.peer()).await;
    let mut through = Stream::open(&standby.fixture, "/v1/watch").await;
    let mut direct = Stream::open(&leader.fixture, "/v1/watch").await;
    let pushed = [Streamed::open(&standby.fixture), Streamed::open(&leader.fixture)];
    for (stream, expected) in pushed.iter().zip([1, 2]) {
        stream.send("1\n");
        while leader.fixture.state.desk.tally().counts().next().unwrap().1 < expected {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    through.next().await.unwrap();
    direct.next().await.unwrap();
    leader.role.send_replace(Role::Standby { leader: "b leads".into() });
    standby.role.send_replace(Role::Leader { term: 1 });
    assert_eq!(through.next().await, None);
    assert_eq!(direct.next().await, None);
    for stream in pushed {
        let answer = timeout(PATIENCE, stream.answer).await.unwrap().unwrap().unwrap();
        assert_eq!(refusal(answer).await, "another replica has come to lead, so this may have had no effect; ask again");
    }
    assert_eq!(standby.fixture.json("/v1/apps").await["items"], json!([]), "it answers itself now");
}

/// The token is meant for demand, and what one replica holds empty another one fills again.
#[tokio::test]
async fn an_operator_drains_no_pool() {
    let leader = Replica::leading(Some("secret")).await;
    let standby = Replica::standing_by("b", Some("secret"), leader.peer()).await;
    for Replica { fixture, .. } in [&leader, &standby] {
        let url = format!("{}/v1/drain/shop/main", fixture.url);
        assert_eq!(Client::new().post(&url).send().await.unwrap().status(), 401);
        let response = fixture.client.post(&url).send().await.unwrap();
        assert_eq!(response.status(), 403);
        assert_eq!(
            response.json::<Value>().await.unwrap()["error"],
            "with Kubernetes, pools are not drained here: delete the apps of pool shop/main, or set their maxReplicas to 0, with kubectl"
        );
    }
}

#[tokio::test]
async fn an_operator_is_ready_when_it_has_read_all_objects() {
    let (synced, seen) = watch::channel(false);
    let fixture = Fixture::with(None, Readiness::Synced(seen), None).await;
    let response = fixture.get("/readyz").await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.text().await.unwrap(), "the objects on the API server have not all been read yet\n");
    synced.send_replace(true);
    assert_eq!(fixture.get("/readyz").await.status(), 200);
}

#[cfg(feature = "open-telemetry")]
#[tokio::test]
async fn what_comes_over_grpc_is_passed_on_to_the_leader() {
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;

    use super::otlp::{gauge, grpc, request, value, with_metric};

    let leader = Replica::leading(Some("secret")).await;
    let _sources = with_metric(&leader.fixture, json!({"metricName": "waiting"})).await;
    let standby = Replica::standing_by("b", Some("secret"), leader.peer()).await;
    let (address, _stop) = grpc(&standby.fixture).await;
    let mut client = MetricsServiceClient::connect(format!("http://{address}")).await.unwrap();
    let message: ExportMetricsServiceRequest = serde_json::from_value(request("waiting", gauge(json!(5)))).unwrap();
    let borne = || {
        let mut borne = tonic::Request::new(message.clone());
        borne.metadata_mut().insert("authorization", "Bearer secret".parse().unwrap());
        borne
    };
    for _ in 0..2 {
        client.export(borne()).await.unwrap();
    }
    assert_eq!(value(&leader.fixture), Some(5.0));
    standby.leader.send_replace(None);
    let nobody = client.export(borne()).await.unwrap_err();
    assert_eq!((nobody.code(), nobody.message()), (tonic::Code::Unavailable, "no replica is known to lead; ask again"));
}
