// The default learner: as cheap as possible while at most a share E of the answers differs from
// what the last exit would have said, learned online and without labels from audits.
//
// Audits. A coin per sample, one number u drawn when it is planned. With probability pi_0, the same
// for all samples, every exit is looked at; else, at the first exit looked at, with a probability
// pi(confidence) >= pi_0 that is larger where the answer that would come of it is doubtful and
// cheap to check, every exit from there on. Both are fixed before u is drawn. An audited sample
// gets the last exit's answer; the answer that it would have got counts for the bound
// (disagreement_bound.h). Audits are run here, so no link can lose one; those on their way when the
// state is saved count as wrong in it.
//
// Rules. Audited rows are kept (audit_rows.h), a curve per exit smooths them
// (disagreement_model.h), the cheapest chain is sought whose disagreement, less what chance may
// have spared it, is at most E (chain_planner.h): beta, the price of a disagreement, by bisection.
// A chain is chosen on the rows that it is scored on; by how much that flatters it is measured with
// chains proposed on one half of the rows and counted on the other, and made up for.
// Weights: a row audited with probability pi stands for 1 / pi samples, but counts as
// (mean pi where answers are doubtful) / pi: what it adds to precision.
//
// Learning: first every sample is audited, then a share that falls with the cube of time, down to
// what costs kAuditShare of the mean cost. With a server samples are sent until a rule is known,
// and so few are audited that learning costs at most kWorth times what it can win. Rows from the
// model file (PolicyOptions::prior_rows) take the place of the first ones: rules are proposed on
// one half of them and scored on all. Where the stream is unlike them they count by their likeness
// to it (prior_weights.h), and where that does not help hardly; they steer and never count for the
// bound. Change (shift_test.h): an alarm begins the learning anew, with old rows counting a tenth.
// Feedback of users is looked at for nothing else: it says what is true, not what the last exit
// says.
//
// Other objectives: the paper's reward (confidence less mu times cost) with the same machinery,
// the loss of an answer being what its confidence lacks to 1: ten rows are enough to begin with,
// audits cost kRewardShare of what they do else, and while rows are few a chain must beat sending
// at once on rows that it was not made from; or a mean cost per sample.
//
// State: the bound (disagreement_bound.h), the estimate (disagreement_estimate.h), probabilities of
// the audits on their way, the rows (audit_rows.h), the weights of the held-out rows that are only
// scored on, counters, moments and the generator. Chains are made anew from the rows. Sizes for 12
// exits with 2,000 held-out rows: state 60 kB, in memory 540 kB by count; for 48 exits 196 kB
// and 1.7 MB.
#pragma once

#include <memory>

#include "policy/policy.h"

namespace splitee::policy {

std::unique_ptr<Policy> make_audited(const PolicyOptions& options);

}  // namespace splitee::policy
