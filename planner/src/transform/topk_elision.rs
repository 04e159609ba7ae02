//! Removes a TopK that keeps every row.

use plan::Mir;
use repr::Datum;

pub fn topk_elision(mir: &mut Mir) {
    mir.visit_mut_post(&mut |node| {
        if keeps_all(node)
            && let Mir::TopK { input, .. } = node
        {
            *node = input.take();
        }
    });
}

fn keeps_all(node: &Mir) -> bool {
    let Mir::TopK {
        input,
        group_key,
        limit,
        offset: 0,
        ..
    } = node
    else {
        return false;
    };
    match limit {
        None => true,
        // One row per group: a limit of at least one cuts nothing.
        Some(limit) => {
            let at_least_one = matches!(limit.as_literal(), Some(Datum::Int64(n)) if n >= 1);
            at_least_one
                && input
                    .keys()
                    .iter()
                    .any(|key| key.iter().all(|c| group_key.contains(c)))
        }
    }
}
