"""From a suggestion to a change that helped: proposal, review, approval, guard, execution, outcome."""
