//go:build !linux

package dockertest

import (
	"syscall"
	"time"
)

// Real engines run only on Linux. These functions let the package compile elsewhere.

// Child returns no attributes.
func Child() *syscall.SysProcAttr { return nil }

func unmountBelow(string) {}

func waitForStop(int) {}

func waitForExit(string) {}

// CPU returns 0.
func (r *Real) CPU() time.Duration { return 0 }
