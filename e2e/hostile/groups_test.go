package hostile

import "slices"

// groups are all tables, each in a file of its own; docs/attacks.md has them in
// this order.
func groups() []group {
	return slices.Concat(
		[]group{filesGroup(), kernelGroup(), resourcesGroup(), lifeGroup()},
		[]group{busGroup(), floodsGroup(), messagesGroup(), runnerGroup(), hooksGroup(), outputGroup(), tenantsGroup()},
		[]group{networkGroup(), secretsGroup()},
	)
}
