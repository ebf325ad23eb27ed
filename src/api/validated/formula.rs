//! A formula over metrics, in CEL (the Common Expression Language), compiled once.

use std::sync::Arc;

use cel::objects::Value;
use cel::{Context, ExecutionError, Program};

use super::Invalid;
use crate::api::app::MicroscaledAppSpec;
use crate::api::demand::Role;

/// Names beside those of the metrics.
const BESIDES: [&str; 2] = ["replicas", "ready"];
/// A formula is tried with these values for all of its names, so that most mistakes show before it counts.
const TRIED: [f64; 3] = [0.0, 1.0, 1000.0];

/// How many replicas are wanted, as a function of metrics.
#[derive(Clone, Debug)]
pub struct Formula {
    source: Arc<str>,
    program: Arc<Program>,
    /// The metrics that are named in it: their places in `App::demand`, and what they are called there.
    inputs: Vec<(usize, String)>,
}

impl PartialEq for Formula {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source && self.inputs == other.inputs
    }
}

impl Formula {
    /// Compiles it. In it, metrics are called by their names, with `_` for `-`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn compile<'a>(source: &str, metrics: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let program = Program::compile(source).map_err(|error| format!("is no CEL: {}", one_line(&error.to_string())))?;
        let names: Vec<String> = metrics.map(|name| name.replace('-', "_")).collect();
        let references = program.references();
        let is_known = |name: &str| BESIDES.contains(&name) || names.iter().any(|known| known == name);
        if let Some(unknown) = references.variables().into_iter().find(|name| !is_known(name)) {
            let known: Vec<&str> = BESIDES.into_iter().chain(names.iter().map(String::as_str)).collect();
            return Err(format!("no metric is called {unknown}; there are {}", known.join(", ")));
        }
        let used = names.into_iter().enumerate().filter(|(_, name)| references.has_variable(name));
        let inputs: Vec<_> = used.filter(|(_, name)| !BESIDES.contains(&name.as_str())).collect();
        let formula = Self { source: source.into(), program: Arc::new(program), inputs };
        TRIED.iter().try_for_each(|value| formula.run(|_| *value, [*value, *value]).map(drop))?;
        Ok(formula)
    }

    /// The places in `App::demand` of the metrics that it needs.
    pub fn inputs(&self) -> impl Iterator<Item = usize> {
        self.inputs.iter().map(|(place, _)| *place)
    }

    /// The replicas that it asks for, from the values of its metrics and from how many replicas are wanted, and ready, by now.
    ///
    /// # Errors
    /// Why there is no such number, in words.
    pub fn replicas(&self, value: impl Fn(usize) -> f64, [replicas, ready]: [f64; 2]) -> Result<f64, String> {
        let result = self.run(value, [replicas, ready])?;
        if result.is_finite() && result >= 0.0 { Ok(result) } else { Err(format!("{result} is no number of replicas")) }
    }

    fn run(&self, value: impl Fn(usize) -> f64, [replicas, ready]: [f64; 2]) -> Result<f64, String> {
        let mut context = Context::default();
        context.add_function("ceil", f64::ceil);
        context.add_function("floor", f64::floor);
        context.add_function("round", f64::round);
        for (place, name) in &self.inputs {
            context.add_variable_from_value(name.as_str(), value(*place));
        }
        context.add_variable_from_value(BESIDES[0], replicas);
        context.add_variable_from_value(BESIDES[1], ready);
        match self.program.execute(&context) {
            Ok(Value::Float(number)) => Ok(number),
            #[allow(clippy::cast_precision_loss)]
            Ok(Value::Int(number)) => Ok(number as f64),
            #[allow(clippy::cast_precision_loss)]
            Ok(Value::UInt(number)) => Ok(number as f64),
            Ok(other) => Err(format!("gives a {}, and not a number", other.type_of())),
            Err(ExecutionError::UnsupportedBinaryOperator(operator, ..)) => {
                Err(format!("'{operator}' of a whole number and a fraction: metrics are fractions, so write 10.0 for 10"))
            }
            Err(error) => Err(one_line(&error.to_string())),
        }
    }
}

/// The formula of an app, over its metrics.
pub(super) fn read(spec: &MicroscaledAppSpec) -> Result<Option<Formula>, Invalid> {
    let Some(source) = &spec.formula else { return Ok(None) };
    let metrics = || spec.demand.iter().enumerate().filter(|(_, demand)| demand.has_values());
    if let Some((index, _)) = metrics().find(|(_, demand)| demand.role == Role::Demand) {
        let problem =
            "with a formula, a metric asks for nothing by itself: give it the role Input, Floor, Cap or Veto".to_owned();
        return Err(Invalid::Field { field: format!("spec.demand[{index}].role"), problem });
    }
    let invalid = |problem| Invalid::Field { field: "spec.formula".to_owned(), problem };
    if metrics().next().is_none() {
        return Err(invalid("there are no metrics for it in demand".to_owned()));
    }
    Formula::compile(source, metrics().map(|(_, demand)| demand.name.as_str())).map(Some).map_err(invalid)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(source: &str) -> Result<Formula, String> {
        Formula::compile(source, ["orders", "stock-left"].into_iter())
    }

    #[test]
    fn metrics_have_their_names() {
        let formula = compile("max(ceil(orders / 10.0), stock_left > 5.0 ? replicas : 2.0)").expect("it compiles");
        let run = |orders: f64, left: f64| formula.replicas(|place| [orders, left][place], [7.0, 6.0]);
        assert_eq!(formula.inputs().collect::<Vec<_>>(), [0, 1]);
        assert_eq!((run(95.0, 0.0), run(5.0, 9.0), run(0.0, 0.0)), (Ok(10.0), Ok(7.0), Ok(2.0)));
        assert_eq!(compile("3").map(|three| three.replicas(|_| 0.0, [0.0, 0.0])), Ok(Ok(3.0)));
    }

    #[test]
    fn mistakes_are_told_before_it_counts() {
        let wrong = |source: &str| compile(source).expect_err("it is wrong");
        assert_eq!(wrong("oders / 10.0"), "no metric is called oders; there are replicas, ready, orders, stock_left");
        assert_eq!(wrong("orders > 1.0"), "gives a bool, and not a number");
        let mixed = wrong("orders / 10");
        assert!(mixed.contains("write 10.0 for 10"), "{mixed}");
        assert!(wrong("orders +").starts_with("is no CEL: "));
        assert!(wrong("log(orders)").contains("log"));
    }

    #[test]
    fn what_is_no_number_of_replicas_is_an_error() {
        let formula = compile("orders - 5.0").expect("it compiles");
        assert_eq!(formula.replicas(|_| 1.0, [0.0, 0.0]), Err("-4 is no number of replicas".to_owned()));
        let formula = compile("1.0 / orders").expect("it compiles");
        assert!(formula.replicas(|_| 0.0, [0.0, 0.0]).is_err());
    }
}
