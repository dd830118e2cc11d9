//go:build !linux

package enginetest

import "syscall"

// Engines of the test's own run on Linux alone.

func Child() *syscall.SysProcAttr { return nil }

func unmountBelow(string) {}

func waitForEnd(string) {}
