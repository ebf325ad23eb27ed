//! The judgement, pure: no I/O, no clock, no randomness; the same inputs give the same bytes.
//!
//! `decide` looks at one pool as a whole, because priority among apps needs one decision over all of them:
//!
//! ```text
//!  readings ─► want ─► damp ─┐
//!                            ├─► claim ─► allocate ─► Plan: starts, waits, stops, and why
//!  agents, tasks, crashes ───┘            (floors, wants by priority, spare room)
//! ```
//!
//! | look for | in |
//! |---|---|
//! | what is looked at: [`World`](world::World) | [`world`] |
//! | what comes out: [`Plan`](plan::Plan) | [`plan`] |
//! | one decision from top to bottom | `decide` |
//! | demand → replicas: what the metrics ask for together | `want` |
//! | the roles of metrics | `combine` |
//! | what counts only in windows of time | `schedule` |
//! | what stands in for metrics that are stale | `fallback` |
//! | one metric → replicas, by its target | `target` |
//! | a bound for how long messages wait; what arrives and gets done, learnt | `wait`, `estimator`, `busy`, `latency` |
//! | the Microscaling Engine's controllers | `pace` |
//! | what these remember | `senses` |
//! | stabilization windows and rate policies, as HPA | `damp` |
//! | crash loops | `backoff` |
//! | bursts, and what is left of them | `panic` |
//! | all of that for one app, or what it came to before | `judgement` |
//! | what one app brings to a decision | `claim` |
//! | who gets the room, in which order | `allocate` |
//! | how one replica comes to its room | `serve` |
//! | what an app has got so far | `seat` |
//! | the room of each agent | `rooms` |
//! | conditions, packing, spreading | `place` |
//! | executors and images: which are wanted where, and which are there | `bases` |
//! | which apps share them, and where they are wanted | `groups` |
//! | how much of them may be there before it is needed | `ahead` |
//! | how they get there before they are needed | `prepare` |
//! | when executors end that nobody wants | `retire` |
//! | whose room is taken | `preempt` |
//! | what is spared | `sparing` |
//! | how much may be taken in a time | `budget` |
//! | changed templates, and hosts that are about to go | `rollout` |
//! | what the pool lacks | [`shortfall`] |
//! | what becomes of held offers | `offers` |
//! | phases and reasons, and their words | `verdict`, `words` |
//! | how executors and images stand: what they use, and what is told | [`standing`] |
//! | what one decision hands to the next: [`Memory`] | `memory` |
//! | resource vectors | [`resources`] |

mod ahead;
mod allocate;
mod backoff;
mod bases;
mod budget;
mod busy;
mod claim;
mod combine;
mod damp;
mod decide;
mod estimator;
mod fallback;
mod groups;
mod judgement;
mod lag;
mod latency;
mod memory;
mod offers;
mod pace;
mod panic;
mod place;
pub mod plan;
mod preempt;
mod prepare;
pub mod resources;
mod retire;
mod rollout;
mod rooms;
mod schedule;
mod seat;
mod senses;
mod serve;
pub mod shortfall;
mod sparing;
pub mod standing;
mod target;
#[cfg(test)]
mod testing;
mod verdict;
mod wait;
mod want;
mod words;
pub mod world;

pub use decide::decide;
pub use memory::Memory;
