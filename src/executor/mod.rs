//! The pooled executor, `microscaler executor`: a custom executor of Mesos (v1 executor HTTP API) that runs on the agents, one per
//! isolation group, and starts each task of its group by a fork. One Mesos task per replica stays true.
//!
//! What it and the framework tell each other beside the fields of Mesos itself is in [`words`].

pub mod words;
