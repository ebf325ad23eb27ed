//! What a lease says, and what is written to it.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

use super::{ADDRESS_ANNOTATION, Peer};

/// A lease as read. What others have written to it (labels, annotations, owners) stays when it is written back.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record(Lease);

impl From<Lease> for Record {
    fn from(mut lease: Lease) -> Self {
        // It is of no use here, and the server keeps it where it is left out.
        lease.metadata.managed_fields = None;
        Self(lease)
    }
}

impl Record {
    /// `None`: it is free.
    pub fn holder(&self) -> Option<&str> {
        self.spec()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
    }

    pub fn peer(&self) -> Option<Peer> {
        let address = self.0.metadata.annotations.as_ref().and_then(|annotations| annotations.get(ADDRESS_ANNOTATION));
        Some(Peer { identity: self.holder()?.to_owned(), address: address.cloned() })
    }

    /// How often another one has come to hold it.
    pub fn transitions(&self) -> i32 {
        self.spec().and_then(|spec| spec.lease_transitions).unwrap_or(0)
    }

    /// Whether nothing was renewed, taken or released between the two; what else was written does not count.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        self.0.spec == other.0.spec && self.0.metadata.uid == other.0.metadata.uid
    }

    fn spec(&self) -> Option<&LeaseSpec> {
        self.0.spec.as_ref()
    }
}

/// Whoever writes to the lease.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    pub namespace: String,
    pub name: String,
    pub peer: Peer,
    pub duration: Duration,
}

impl Holder {
    pub fn identity(&self) -> &str {
        &self.peer.identity
    }

    /// The lease in our hand from now on; for the first time, or taken from whoever had it.
    pub fn taken(&self, found: Option<&Record>, transitions: i32, now: Timestamp) -> Lease {
        let mut lease = found.map_or_else(|| self.blank(), |record| record.0.clone());
        let spec = lease.spec.get_or_insert_default();
        spec.lease_transitions = Some(transitions);
        spec.acquire_time = Some(MicroTime(now));
        self.sign(lease, now)
    }

    /// Still ours.
    pub fn renewed(&self, held: &Record, now: Timestamp) -> Lease {
        self.sign(held.0.clone(), now)
    }

    /// Made anew after somebody has deleted it, as it was.
    pub fn restored(&self, held: &Record, now: Timestamp) -> Lease {
        let lease = Lease { metadata: self.blank().metadata, spec: held.0.spec.clone() };
        self.sign(lease, now)
    }

    /// Free for anybody.
    pub fn released(held: &Record, now: Timestamp) -> Lease {
        let mut lease = held.0.clone();
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = None;
        spec.renew_time = Some(MicroTime(now));
        lease.metadata.annotations.get_or_insert_default().remove(ADDRESS_ANNOTATION);
        lease
    }

    fn blank(&self) -> Lease {
        let (namespace, name) = (Some(self.namespace.clone()), Some(self.name.clone()));
        Lease { metadata: ObjectMeta { namespace, name, ..ObjectMeta::default() }, spec: None }
    }

    fn sign(&self, mut lease: Lease, now: Timestamp) -> Lease {
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(self.peer.identity.clone());
        spec.renew_time = Some(MicroTime(now));
        spec.lease_duration_seconds = Some(whole_seconds(self.duration));
        let annotations = lease.metadata.annotations.get_or_insert_default();
        match &self.peer.address {
            Some(address) => annotations.insert(ADDRESS_ANNOTATION.to_owned(), address.clone()),
            None => annotations.remove(ADDRESS_ANNOTATION),
        };
        lease
    }
}

/// Rounded up; the API server wants one at least.
fn whole_seconds(duration: Duration) -> i32 {
    let rounded = duration.as_millis().div_ceil(1000).max(1);
    i32::try_from(rounded).unwrap_or(i32::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn holder(identity: &str) -> Holder {
        Holder {
            namespace: "shop".to_owned(),
            name: "lease".to_owned(),
            peer: Peer { identity: identity.to_owned(), address: Some(format!("http://{identity}:8910")) },
            duration: Duration::from_millis(1500),
        }
    }

    /// Taken or renewed by this one at this second.
    pub(in super::super) fn held(identity: &str, transitions: i32, second: i64) -> Record {
        holder(identity).taken(None, transitions, Timestamp::from_second(second).unwrap()).into()
    }

    pub(in super::super) fn released(record: &Record) -> Record {
        Holder::released(record, Timestamp::UNIX_EPOCH).into()
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let record = held("a", 3, 100);
        assert_eq!(record.peer(), Some(Peer { identity: "a".to_owned(), address: Some("http://a:8910".to_owned()) }));
        assert_eq!(record.transitions(), 3);
        assert_eq!(record.spec().unwrap().lease_duration_seconds, Some(2));
        let free = released(&record);
        assert_eq!((free.holder(), free.peer(), free.transitions()), (None, None, 3));
    }

    #[test]
    fn renewing_keeps_what_others_wrote() {
        let mut lease = held("a", 0, 100).0;
        lease.metadata.resource_version = Some("7".to_owned());
        lease.metadata.labels = Some([("team".to_owned(), "x".to_owned())].into());
        lease.metadata.annotations = Some([("note".to_owned(), "y".to_owned())].into());
        let before = Record::from(lease);
        let after = Record::from(holder("a").renewed(&before, Timestamp::from_second(101).unwrap()));
        assert_eq!(after.0.metadata.labels, before.0.metadata.labels);
        assert_eq!(after.0.metadata.resource_version, before.0.metadata.resource_version, "a newer one would be overwritten");
        assert_eq!(after.0.metadata.annotations.as_ref().unwrap()["note"], "y");
        assert_eq!(after.peer().unwrap().address.unwrap(), "http://a:8910");
        assert_eq!(after.spec().unwrap().acquire_time, before.spec().unwrap().acquire_time);
        assert!(!after.says_the_same_as(&before));
    }

    #[test]
    fn one_without_an_address_does_not_leave_its_predecessors() {
        let mut b = holder("b");
        b.peer.address = None;
        let taken = Record::from(b.taken(Some(&held("a", 0, 100)), 1, Timestamp::UNIX_EPOCH));
        assert_eq!(taken.peer(), Some(Peer { identity: "b".to_owned(), address: None }));
    }

    #[test]
    fn what_is_made_anew_names_no_version() {
        let mut lease = held("a", 2, 100).0;
        lease.metadata.resource_version = Some("7".to_owned());
        lease.metadata.uid = Some("u".to_owned());
        let again = Record::from(holder("a").restored(&lease.into(), Timestamp::UNIX_EPOCH));
        assert_eq!((&again.0.metadata.uid, &again.0.metadata.resource_version), (&None, &None));
        assert_eq!((again.holder(), again.transitions()), (Some("a"), 2));
    }
}
