//! Queues of Amazon SQS, of moto's server, which checks signatures when it is told to.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use microscaler_testbed::{Server, Stopped};
use reqwest::{Client, Url};
use serde_json::{Value, json};

use crate::fixture::{Files, Fixture, arguments, is, metric};
use crate::http::serve;
use crate::https::{client, over_tls, tls};

/// Whose requests are not checked.
const NOBODY: &str =
    "AWS4-HMAC-SHA256 Credential=nobody/20260101/eu-west-1/SERVICE/aws4_request, SignedHeaders=host, Signature=none";

struct Moto {
    server: Server,
    client: Client,
    /// The access key.
    secrets: Files,
}

impl Moto {
    async fn start() -> Self {
        Self::with(Server::new("moto").unwrap(), &[]).await
    }

    /// With one queue, `orders`.
    async fn with(stopped: Stopped, options: &[&str]) -> Self {
        let installed = stopped.installed().display().to_string();
        let stopped = stopped.environment("PYTHONPATH", installed);
        let own = ["-m", "moto.server", "-p", "{port}"];
        let server = stopped.start("/usr/bin/python3", arguments(&[&own, options].concat())).unwrap();
        let moto = Self { server, client: client(), secrets: Files::new() };
        moto.keep("some-id", "some-secret");
        moto.sqs("CreateQueue", json!({"QueueName": "orders"})).await;
        moto
    }

    fn queue(&self, name: &str) -> String {
        format!("{}/123456789012/{name}", self.server.url())
    }

    /// Does something to the queue.
    async fn sqs(&self, action: &str, mut body: Value) -> String {
        body["QueueUrl"] = self.queue("orders").into();
        let request = self.client.post(self.server.url()).header("authorization", NOBODY.replace("SERVICE", "sqs"));
        let request =
            request.header("x-amz-target", format!("AmazonSQS.{action}")).header("content-type", "application/x-amz-json-1.0");
        let answer = request.body(body.to_string()).send().await.unwrap();
        assert!(answer.status().is_success(), "{action}: {}", answer.text().await.unwrap());
        answer.text().await.unwrap()
    }

    async fn iam(&self, parameters: &[(&str, &str)]) -> String {
        let url = Url::parse_with_params(&self.server.url(), parameters).unwrap();
        let request = self.client.post(url).header("authorization", NOBODY.replace("SERVICE", "iam"));
        request.send().await.unwrap().error_for_status().unwrap().text().await.unwrap()
    }

    /// From now on, only who is known and allowed to gets an answer, or everybody.
    async fn check_signatures(&self, check: bool) {
        let url = format!("{}/moto-api/reset-auth", self.server.url());
        let after = if check { "0" } else { "1000000" };
        let request = self.client.post(url).header("content-type", "text/plain").body(after);
        request.send().await.unwrap().error_for_status().unwrap();
    }

    /// Makes an access key for this user: its id and its secret.
    async fn access_key(&self, user: &str) -> (String, String) {
        let made = self.iam(&[("Action", "CreateAccessKey"), ("UserName", user)]).await;
        let of = |tag: &str| made.split(&format!("<{tag}>")).nth(1).unwrap().split('<').next().unwrap().to_owned();
        (of("AccessKeyId"), of("SecretAccessKey"))
    }

    fn keep(&self, id: &str, secret: &str) {
        self.secrets.write("id", id);
        self.secrets.write("secret", secret);
    }

    fn spec(&self, queue: &str) -> Value {
        spec(&self.queue(queue), &self.secrets)
    }

    fn fixture(&self, queue: &str) -> Fixture {
        Fixture::of(metric("m", "sqs", &self.spec(queue)))
    }
}

fn spec(queue: &str, secrets: &Files) -> Value {
    json!({
        "queueURL": queue, "awsRegion": "eu-west-1", "pollMilliseconds": 20, "timeoutMilliseconds": 20_000,
        "awsAccessKeyID": secrets.named("id"), "awsSecretAccessKey": secrets.named("secret"),
    })
}

#[tokio::test]
async fn messages_are_counted_as_the_spec_says() {
    let moto = Moto::start().await;
    let fixture = moto.fixture("orders");
    assert!(is(0.0)(fixture.value().await));
    for _ in 0..3 {
        moto.sqs("SendMessage", json!({"MessageBody": "an order"})).await;
    }
    fixture.until_value(is(3.0)).await;
    moto.sqs("SendMessage", json!({"MessageBody": "an order", "DelaySeconds": 600})).await;
    moto.sqs("ReceiveMessage", json!({"MaxNumberOfMessages": 1, "VisibilityTimeout": 600})).await;
    for (in_flight, delayed, expected) in [(true, true, 4.0), (true, false, 3.0), (false, true, 3.0), (false, false, 2.0)] {
        let mut spec = moto.spec("orders");
        spec["scaleOnInFlight"] = in_flight.into();
        spec["scaleOnDelayed"] = delayed.into();
        let value = Fixture::of(metric("m", "sqs", &spec)).value().await;
        assert!(is(expected)(value), "{value} with in flight {in_flight}, delayed {delayed}");
    }
}

#[tokio::test]
async fn only_who_may_is_answered() {
    let moto = Moto::start().await;
    moto.sqs("SendMessage", json!({"MessageBody": "an order"})).await;
    let policy =
        json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sqs:GetQueueAttributes", "Resource": "*"}]});
    for user in ["shop", "guest"] {
        moto.iam(&[("Action", "CreateUser"), ("UserName", user)]).await;
    }
    let policy = policy.to_string();
    moto.iam(&[("Action", "PutUserPolicy"), ("UserName", "shop"), ("PolicyName", "read"), ("PolicyDocument", &policy)]).await;
    let ((id, secret), (of_guest, secret_of_guest)) = (moto.access_key("shop").await, moto.access_key("guest").await);
    moto.check_signatures(true).await;
    for (id, secret, why) in [
        ("nobody", "x", "awsAccessKeyID is not known there"),
        (&id, "x", "awsSecretAccessKey does not fit awsAccessKeyID, or this machine's clock is wrong"),
        (&of_guest, &secret_of_guest, "the credentials may not do sqs:GetQueueAttributes there"),
    ] {
        moto.keep(id, secret);
        assert_eq!(moto.fixture("orders").failure().await, format!("queue {}: {why}", moto.queue("orders")));
    }
    moto.keep(&id, &secret);
    let fixture = moto.fixture("orders");
    assert!(is(1.0)(fixture.value().await));

    // The access key is replaced.
    moto.check_signatures(false).await;
    let (new_id, new_secret) = moto.access_key("shop").await;
    moto.iam(&[("Action", "DeleteAccessKey"), ("UserName", "shop"), ("AccessKeyId", &id)]).await;
    moto.check_signatures(true).await;
    fixture.until_failure("awsAccessKeyID is not known there").await;
    moto.keep(&new_id, &new_secret);
    assert!(is(1.0)(fixture.value().await));
}

#[tokio::test]
async fn a_queue_or_a_secret_that_is_not_there_is_told() {
    let moto = Moto::start().await;
    let failure = moto.fixture("nowhere").failure().await;
    assert_eq!(failure, format!("queue {}: there is no such queue", moto.queue("nowhere")));
    moto.secrets.remove("secret");
    let failure = moto.fixture("orders").failure().await;
    assert!(failure.starts_with("awsSecretAccessKey: cannot read "), "{failure}");
}

#[tokio::test]
async fn a_server_that_is_started_again_is_found() {
    let moto = Moto::start().await;
    moto.sqs("SendMessage", json!({"MessageBody": "an order"})).await;
    let fixture = moto.fixture("orders");
    assert!(is(1.0)(fixture.value().await));
    moto.server.kill();
    fixture.failure().await;
    fixture.failure_keeps(1.0).await;
    moto.server.start().unwrap();
    // It has forgotten its queues.
    fixture.until_failure("there is no such queue").await;
    moto.sqs("CreateQueue", json!({"QueueName": "orders"})).await;
    fixture.until_value(is(0.0)).await;
}

#[tokio::test]
async fn over_tls_only_an_authority_that_is_named_is_trusted() {
    let (stopped, ours) = over_tls("moto");
    let moto = Moto::with(stopped, &["-c", "server.pem", "-k", "server.key"]).await;
    let mut spec = moto.spec("orders");
    let failure = Fixture::of(metric("m", "sqs", &spec)).failure().await;
    assert_eq!(failure, format!("POST {}/: invalid peer certificate: UnknownIssuer", moto.server.url()));
    spec["tls"] = tls(ours.path(), None);
    assert!(is(0.0)(Fixture::of(metric("m", "sqs", &spec)).value().await));
}

#[tokio::test]
async fn garbage_is_a_failure() {
    let secrets = Files::new();
    for name in ["id", "secret"] {
        secrets.write(name, "x");
    }
    for (status, garbage, expected) in [
        (200, "<html>", "not an answer of SQS: there are no attributes in it"),
        (
            200,
            r#"{"Attributes": {"ApproximateNumberOfMessages": "many"}}"#,
            "not an answer of SQS: ApproximateNumberOfMessages is no number",
        ),
        (503, "busy", "status 503: busy"),
    ] {
        let answer = (StatusCode::from_u16(status).unwrap(), garbage);
        let (address, _task) = serve(Router::new().route("/base", post(move || async move { answer }))).await;
        // The server is another one than that of the queue's address.
        let mut spec = spec("https://sqs.eu-west-1.amazonaws.com/123456789012/orders", &secrets);
        spec["awsEndpoint"] = format!("http://{address}/base").into();
        let failure = Fixture::of(metric("m", "sqs", &spec)).failure().await;
        assert_eq!(failure, format!("POST http://{address}/base: {expected}"));
    }
}

#[tokio::test]
async fn queues_of_several_apps_are_read_side_by_side() {
    let moto = Moto::start().await;
    moto.sqs("SendMessage", json!({"MessageBody": "an order"})).await;
    Fixture::side_by_side("sqs", &moto.spec("orders"), &moto.spec("nowhere")).await;
}
