//! How a floating-point number is written.
//!
//! What it is for: Linkerd printed Java floats (`1.0`, `1.6E9`); dashboards and scripts saw that form, JSON and Prometheus
//! both accept it (telemetry reference sections 8 and 9). What it is not: a general formatter. Called by: both exporters.

/// Finite numbers always with a decimal part, and as `1.6E9` from 10⁷ up and below 10⁻³. Anything else gives `None`.
pub(crate) fn decimal(v: f64) -> Option<String> {
    if !v.is_finite() {
        return None;
    }
    let size = v.abs();
    if size == 0.0 || (1e-3..1e7).contains(&size) {
        return Some(format!("{v:?}"));
    }
    let text = format!("{v:E}");
    Some(match text.split_once('E') {
        Some((mantissa, exponent)) if !mantissa.contains('.') => format!("{mantissa}.0E{exponent}"),
        _ => text,
    })
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn java_style() {
        for (v, want) in [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (5.275, "5.275"),
            (421_873.0, "421873.0"),
            (120_586_000.0, "1.20586E8"),
            (1.6e9, "1.6E9"),
            (1e8, "1.0E8"),
            (-2e7, "-2.0E7"),
            (0.0001, "1.0E-4"),
        ] {
            assert_eq!(decimal(v).as_deref(), Some(want));
        }
        assert_eq!(decimal(f64::NAN), None);
        assert_eq!(decimal(f64::INFINITY), None);
    }
}
