//go:build !linux

package dockertest

import (
	"syscall"
	"time"
)

// Engines of the test's own run on Linux alone.

func Child() *syscall.SysProcAttr { return nil }

func unmountBelow(string) {}

func waitForStop(int) {}

func waitForEnd(string) {}

// CPU is not known where engines of the test's own do not run.
func (r *Real) CPU() time.Duration { return 0 }
