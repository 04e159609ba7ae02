//! How hard arrangements are merged while no updates come.
//!
//! Without effort an idle arrangement keeps every batch and every superseded update for ever. With too much, each small change would merge the
//! whole again. The rule spends a bounded effort as long as some layer is not much larger than what lies below it.

use differential_dataflow::trace::ExertionLogic;
use std::sync::Arc;

/// The rule's constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exertion {
    /// Updates merged per activation.
    pub effort: usize,
    /// A layer this many times as large as all below it is left alone; the factor halves from layer to layer downwards.
    pub factor: usize,
}

impl Default for Exertion {
    fn default() -> Self {
        Exertion {
            effort: 1000,
            factor: 16,
        }
    }
}

/// The configuration of a timely worker that follows the rule.
pub fn worker_config(exertion: Exertion) -> timely::WorkerConfig {
    let mut config = timely::WorkerConfig::default();
    let logic: ExertionLogic = Arc::new(move |layers| exertion.effort_for(layers));
    config.set("differential/default_exert_logic".to_owned(), logic);
    config
}

impl Exertion {
    /// The effort to spend on these layers, from large to small: (index, batches, updates).
    fn effort_for(self, layers: &[(usize, usize, usize)]) -> Option<usize> {
        let mut factor = self.factor;
        let mut below: usize = layers.iter().map(|(_, _, length)| *length).sum();
        for (_, batches, length) in layers.iter().filter(|(_, batches, _)| *batches > 0) {
            below -= length;
            if *batches > 1 {
                return Some(self.effort);
            }
            if below > 0 && *length < factor * below {
                return Some(self.effort);
            }
            factor = (factor / 2).max(1);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effort_goes_to_layers_of_similar_size() {
        let rule = Exertion::default();
        assert_eq!(rule.effort_for(&[(20, 1, 1_000_000), (0, 0, 0)]), None);
        assert_eq!(
            rule.effort_for(&[(20, 1, 1_000_000), (3, 1, 8)]),
            None,
            "a small change does not merge the whole"
        );
        assert_eq!(
            rule.effort_for(&[(20, 1, 1_000_000), (18, 1, 200_000)]),
            Some(1000)
        );
        assert_eq!(
            rule.effort_for(&[(20, 2, 1_000_000)]),
            Some(1000),
            "a merge that has begun is finished"
        );
    }
}
