//go:build !linux

package host

import (
	"errors"
	"io/fs"
	"net"
	"time"
)

// On other systems the engine runs in a virtual machine, whose disk is not visible.

func statfs(string) (statfsResult, error) { return statfsResult{}, errors.ErrUnsupported }

func peerPID(*net.UnixConn) (int, error) { return 0, errors.ErrUnsupported }

func timeOfTicks(uint64) time.Time { return time.Time{} }

func birth(string) (time.Time, error) { return time.Time{}, errors.ErrUnsupported }

func statOf(fs.FileInfo) fileStat { return fileStat{} }
