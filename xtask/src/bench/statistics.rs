//! Medians, quartiles and a bootstrap interval for a handful of noisy numbers.
//!
//! Invariant: the bootstrap's random numbers have a fixed seed, so the same measurements print the same interval.

/// How often the bootstrap resamples.
const RESAMPLES: usize = 10_000;

/// Numbers in rising order.
#[derive(Clone, Debug)]
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    /// Takes the numbers; `None` when there are none or one is not finite.
    pub(crate) fn new(mut values: Vec<f64>) -> Option<Self> {
        if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        values.sort_by(f64::total_cmp);
        Some(Self(values))
    }

    /// The value below which `share` of the sample lies, interpolated between neighbours.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let position = share * (self.0.len() - 1) as f64;
        let (below, above) = (self.0[position.floor() as usize], self.0[position.ceil() as usize]);
        below + (above - below) * position.fract()
    }

    /// The middle.
    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The smallest.
    pub(crate) fn smallest(&self) -> f64 {
        self.0[0]
    }

    /// The largest.
    pub(crate) fn largest(&self) -> f64 {
        self.0[self.0.len() - 1]
    }

    /// The interval in which the median lies with 95 % confidence (percentile bootstrap).
    pub(crate) fn median_interval(&self) -> (f64, f64) {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut pick = || {
            // xorshift64*: enough for choosing elements.
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % self.0.len()
        };
        let medians = (0..RESAMPLES)
            .filter_map(|_| Self::new((0..self.0.len()).map(|_| self.0[pick()]).collect()))
            .map(|resample| resample.median())
            .collect();
        let medians = Self::new(medians).expect("resamples of finite numbers are finite and RESAMPLES is not 0");
        (medians.quantile(0.025), medians.quantile(0.975))
    }
}

#[cfg(test)]
mod tests {
    use super::Sample;

    #[test]
    fn quantiles_interpolate() {
        let sample = Sample::new(vec![4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!(sample.median(), 2.5);
        assert_eq!((sample.smallest(), sample.largest()), (1.0, 4.0));
        assert_eq!(sample.quantile(0.25), 1.75);
        assert!(Sample::new(vec![]).is_none());
        assert!(Sample::new(vec![1.0, f64::NAN]).is_none());
    }

    #[test]
    fn the_interval_holds_the_median_and_narrows_with_agreement() {
        let spread = Sample::new((0..14).map(|n| 0.8 + f64::from(n) * 0.03).collect()).unwrap();
        let close = Sample::new((0..14).map(|n| 0.99 + f64::from(n) * 0.001).collect()).unwrap();
        let width = |sample: &Sample| {
            let (low, high) = sample.median_interval();
            assert!(low <= sample.median() && sample.median() <= high);
            high - low
        };
        assert!(width(&close) < width(&spread) / 5.0);
        assert_eq!(spread.median_interval(), spread.median_interval());
        let same = Sample::new(vec![1.0; 5]).unwrap();
        assert_eq!(same.median_interval(), (1.0, 1.0));
    }
}
