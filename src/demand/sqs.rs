//! Demand as the number of messages in a queue of Amazon SQS, over its protocol in JSON, signed with AWS' own signer.

use std::collections::HashMap;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use reqwest::Url;
use serde::Deserialize;
use serde_json::json;

use super::context::Context;
use super::poll::Query;
use super::web::{Answer, Web, address};
use crate::api::demand::Sqs;
use crate::engine::clock;

const HEADERS: [(&str, &str); 2] =
    [("content-type", "application/x-amz-json-1.0"), ("x-amz-target", "AmazonSQS.GetQueueAttributes")];

/// What refusals say, whatever they are wrapped in, and what is wrong then.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html>
const REFUSALS: [(&str, &str); 9] = [
    ("QueueDoesNotExist", "there is no such queue"),
    ("NonExistentQueue", "there is no such queue"),
    ("InvalidClientTokenId", "awsAccessKeyID is not known there"),
    ("InvalidAccessKeyId", "awsAccessKeyID is not known there"),
    ("UnrecognizedClient", "awsAccessKeyID or awsSessionToken is not known there"),
    ("SignatureDoesNotMatch", "awsSecretAccessKey does not fit awsAccessKeyID, or this machine's clock is wrong"),
    ("InvalidSignature", "awsSecretAccessKey does not fit awsAccessKeyID, or this machine's clock is wrong"),
    ("ExpiredToken", "the credentials have expired"),
    ("AccessDenied", "the credentials may not do sqs:GetQueueAttributes there"),
];

/// A queue, and how it is asked.
pub struct QueueAttributes {
    web: Web,
    context: Context,
    spec: Sqs,
    endpoint: Url,
    body: String,
}

impl QueueAttributes {
    /// # Errors
    /// In words, when an address is none.
    pub fn new(context: Context, spec: &Sqs) -> Result<Self, String> {
        let mut endpoint = address(spec.aws_endpoint.as_ref().unwrap_or(&spec.queue_url)).map_err(|error| error.to_string())?;
        if spec.aws_endpoint.is_none() {
            endpoint.set_path("/");
        }
        let web = Web::of(context.clone(), &endpoint, None, spec.tls.clone());
        let body = json!({"QueueUrl": spec.queue_url, "AttributeNames": counted(spec)}).to_string();
        Ok(Self { web, context, spec: spec.clone(), endpoint, body })
    }

    /// The headers that say who asks, and prove it.
    async fn signature(&self) -> Result<Vec<(String, String)>, String> {
        let read = async |name: &str, value| self.context.secret(value).await.map_err(|error| format!("{name}: {error}"));
        let id = read("awsAccessKeyID", &self.spec.aws_access_key_id).await?;
        let secret = read("awsSecretAccessKey", &self.spec.aws_secret_access_key).await?;
        let token = match &self.spec.aws_session_token {
            Some(token) => Some(read("awsSessionToken", token).await?),
            None => None,
        };
        let identity = Credentials::new(id, secret, token, None, "spec").into();
        let unsigned = |error: &dyn std::fmt::Display| format!("the request cannot be signed: {error}");
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.spec.aws_region)
            .name("sqs")
            .time(clock::timestamp().into())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| unsigned(&error))?
            .into();
        let body = SignableBody::Bytes(self.body.as_bytes());
        let request = SignableRequest::new("POST", self.endpoint.as_str(), HEADERS.into_iter(), body);
        let signed = sign(request.map_err(|error| unsigned(&error))?, &parameters).map_err(|error| unsigned(&error))?;
        Ok(signed.output().headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    fn refusal(&self, answer: &Answer) -> String {
        let text = String::from_utf8_lossy(&answer.body);
        match REFUSALS.iter().find(|(code, _)| text.contains(code)) {
            Some((_, why)) => format!("queue {}: {why}", self.spec.queue_url),
            None => self.web.refusal(answer).to_string(),
        }
    }
}

impl Query for QueueAttributes {
    async fn ask(&self) -> Result<f64, String> {
        let signature = self.signature().await?;
        let headers = || HEADERS.into_iter().chain(signature.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let build = |client: &reqwest::Client| {
            let request = client.post(self.endpoint.clone()).body(self.body.clone());
            headers().fold(request, |request, (name, value)| request.header(name, value))
        };
        let answer = self.web.ask(build).await?;
        if !answer.status.is_success() {
            return Err(self.refusal(&answer));
        }
        count(&answer.body, &counted(&self.spec)).map_err(|why| format!("{}: not an answer of SQS: {why}", answer.asked))
    }
}

/// The attributes whose sum is the demand.
fn counted(spec: &Sqs) -> Vec<&'static str> {
    let optional = [
        (spec.scale_on_in_flight, "ApproximateNumberOfMessagesNotVisible"),
        (spec.scale_on_delayed, "ApproximateNumberOfMessagesDelayed"),
    ];
    let wanted = optional.into_iter().filter_map(|(wanted, name)| wanted.then_some(name));
    std::iter::once("ApproximateNumberOfMessages").chain(wanted).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Body {
    attributes: HashMap<String, String>,
}

/// The sum of these attributes.
///
/// # Errors
/// In words, which tell nothing of the answer, when one is missing or no number.
pub fn count(body: &[u8], attributes: &[&str]) -> Result<f64, String> {
    let body: Body = serde_json::from_slice(body).map_err(|_| "there are no attributes in it".to_owned())?;
    let number = |name: &&str| {
        let number = body.attributes.get(*name).and_then(|value| value.parse::<u32>().ok());
        number.map(f64::from).ok_or_else(|| format!("{name} is no number"))
    };
    attributes.iter().map(number).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_added_up() {
        let body = br#"{"Attributes": {"ApproximateNumberOfMessages": "3", "ApproximateNumberOfMessagesNotVisible": "4"}}"#;
        let [waiting, in_flight] = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"];
        assert_eq!(count(body, &[waiting]), Ok(3.0));
        assert_eq!(count(body, &[waiting, in_flight]), Ok(7.0));
        let missing = count(body, &[waiting, "ApproximateNumberOfMessagesDelayed"]);
        assert_eq!(missing, Err("ApproximateNumberOfMessagesDelayed is no number".to_owned()));
        let negative = br#"{"Attributes": {"ApproximateNumberOfMessages": "-3"}}"#;
        assert_eq!(count(negative, &[waiting]), Err("ApproximateNumberOfMessages is no number".to_owned()));
        assert_eq!(count(b"{}", &[waiting]), Err("there are no attributes in it".to_owned()));
    }
}
