//! Flattens nested unions and cancels a branch against its own negation.

use plan::Mir;

pub fn union_cancel(mir: &mut Mir) {
    mir.visit_mut_post(&mut |node| {
        let Mir::Union { inputs } = node else { return };
        let types = inputs[0].types();
        let mut flat = vec![];
        inputs
            .drain(..)
            .for_each(|input| flatten(input, false, &mut flat));
        cancel(&mut flat);
        *node = match flat.len() {
            0 => crate::transform::empty(types),
            1 => flat.remove(0),
            _ => Mir::Union { inputs: flat },
        };
    });
}

/// Collects the branches of nested unions; a negated union is a union of negated branches.
fn flatten(mir: Mir, negated: bool, out: &mut Vec<Mir>) {
    match mir {
        Mir::Union { inputs } => inputs
            .into_iter()
            .for_each(|input| flatten(input, negated, out)),
        Mir::Negate { input } => flatten(*input, !negated, out),
        other if negated => out.push(Mir::Negate {
            input: Box::new(other),
        }),
        other => out.push(other),
    }
}

fn cancel(branches: &mut Vec<Mir>) {
    let mut i = 0;
    while i < branches.len() {
        let opposite = branches[i + 1..]
            .iter()
            .position(|other| match (&branches[i], other) {
                (Mir::Negate { input }, other) | (other, Mir::Negate { input }) => {
                    **input == *other
                }
                _ => false,
            });
        match opposite {
            Some(offset) => {
                branches.remove(i + 1 + offset);
                branches.remove(i);
            }
            None => i += 1,
        }
    }
}
