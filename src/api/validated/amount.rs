//! Amounts as they are written, in units of our own: thousandths of a core and of a MiB.

use super::Invalid;
use crate::api::pool::Amounts;
use crate::api::quantity::Quantity;
use crate::policy::resources::Resources;

pub(super) fn positive(field: &str, quantity: &Quantity) -> Result<f64, Invalid> {
    match quantity.number() {
        Ok(n) if n > 0.0 => Ok(n),
        Ok(_) => Err(Invalid::Field { field: field.to_owned(), problem: "must be more than 0".to_owned() }),
        Err(problem) => Err(Invalid::Amount { field: field.to_owned(), problem }),
    }
}

pub(super) fn amounts(field: &str, amounts: Option<&Amounts>, otherwise: Resources) -> Result<Resources, Invalid> {
    let Some(amounts) = amounts else { return Ok(otherwise) };
    let field = |name: &str| format!("{field}.{name}");
    Ok(Resources {
        cpu: amounts.cpu.as_ref().map_or(Ok(otherwise.cpu), |q| cores(&field("cpu"), q))?,
        memory: amounts.memory.as_ref().map_or(Ok(otherwise.memory), |q| mebibytes(&field("memory"), q))?,
        disk: amounts.disk.as_ref().map_or(Ok(otherwise.disk), |q| mebibytes(&field("disk"), q))?,
        gpu: amounts.gpu.unwrap_or(otherwise.gpu),
        ports: otherwise.ports,
    })
}

pub(super) fn cores(field: &str, quantity: &Quantity) -> Result<i64, Invalid> {
    let milli = quantity.thousandths().map_err(|problem| Invalid::Amount { field: field.to_owned(), problem })?;
    Ok(bounded(milli))
}

/// Thousandths of a MiB, rounded up.
pub(super) fn mebibytes(field: &str, quantity: &Quantity) -> Result<i64, Invalid> {
    let milli_bytes = quantity.thousandths().map_err(|problem| Invalid::Amount { field: field.to_owned(), problem })?;
    Ok(bounded((milli_bytes + (1 << 20) - 1) >> 20))
}

/// More than any cluster has is as good as this much, and sums stay far from overflow.
fn bounded(amount: i128) -> i64 {
    const MOST: i64 = i64::MAX / 1024;
    i64::try_from(amount).map_or(MOST, |amount| amount.min(MOST))
}

pub(super) fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}
