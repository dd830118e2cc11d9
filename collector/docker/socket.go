package docker

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// socketFile is what the file system says about the socket of an engine.
type socketFile struct {
	path      string
	isNoFile  bool // it cannot be inspected
	isSocket  bool
	isRemoved bool // it was mounted, and has been removed from its directory since
	isGroups  bool // its group may write to it
	uid, gid  int
	owner     string // name
	group     string // name
}

func inspectSocket(path string) socketFile {
	info, err := os.Stat(path)
	if err != nil {
		return closedDirectory(path)
	}
	s := socketFile{path: path, isSocket: info.Mode()&os.ModeSocket != 0, isGroups: info.Mode()&0o020 != 0}
	s.setOwner(info)
	return s
}

// closedDirectory returns the innermost directory of a path that can be inspected. If the path
// cannot be inspected, this is the one that is closed.
func closedDirectory(path string) socketFile {
	s := socketFile{path: path, isNoFile: true}
	for s.path != "/" && s.path != "." {
		s.path = filepath.Dir(s.path)
		if info, err := os.Stat(s.path); err == nil {
			s.setOwner(info)
			break
		}
	}
	return s
}

func (s *socketFile) setOwner(info os.FileInfo) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return
	}
	s.uid, s.gid, s.isRemoved = int(stat.Uid), int(stat.Gid), stat.Nlink == 0
	s.owner, s.group = strconv.Itoa(s.uid), strconv.Itoa(s.gid)
	if found, err := user.LookupId(s.owner); err == nil {
		s.owner = found.Username
	}
	if found, err := user.LookupGroupId(s.group); err == nil {
		s.group = found.Name
	}
}

// overflowID is what a user namespace shows for the IDs that it does not have.
const overflowID = 65534

// permissionHint says how a process may use the socket.
func (s socketFile) permissionHint(environment Environment) string {
	namespace := environment.userNamespace()
	switch {
	case namespace == remappedNamespace && s.gid == overflowID:
		return "the engine maps the users of this container (userns-remap): start it with --userns=host and, with --group-add, the group that the socket has on the host"
	case namespace == rootlessNamespace && s.gid == overflowID:
		return "this container is one of a rootless engine, and the socket one of another user: mount the rootless engine's own (-v $XDG_RUNTIME_DIR/docker.sock:/var/run/docker.sock)"
	case namespace == rootlessNamespace:
		return "start the container with --user 0:0: with a rootless engine that is the user who runs the engine"
	case s.isNoFile:
		return fmt.Sprintf("the directory %s is closed to this process: start the engine, set --docker.host to another socket, or run this process as the user %s", s.path, s.owner)
	case environment.UID == s.uid, s.isGroups && slices.Contains(environment.Groups, s.gid):
		return fmt.Sprintf("the permissions of %s allow it, so a security module denies it (SELinux, AppArmor): see its log; docker run --security-opt label=disable", s.path)
	case !s.isGroups:
		return fmt.Sprintf("the socket %s is closed to its group: run this process as the user %s", s.path, s.owner)
	case environment.InContainer:
		return fmt.Sprintf("start the container with --group-add %d, the group of %s", s.gid, s.path)
	default:
		return fmt.Sprintf("add this process to the group %s of %s (usermod -aG %s USER; in a container docker run --group-add %d)", s.group, s.path, s.group, s.gid)
	}
}

// refusedHint says why no process accepts connections to the socket.
func (s socketFile) refusedHint(environment Environment) string {
	switch {
	case !s.isNoFile && !s.isSocket:
		return s.path + " is not a socket: correct --docker.host or, in a container, the mount (Docker creates a directory if there is no such file on the host)"
	case s.isRemoved:
		return "the engine has created a new socket since " + s.path + " was mounted: restart this container; to prevent that, mount the directory of the socket instead of the file"
	case environment.InContainer:
		return "start the engine; if it runs, it may have created a new socket since this one was mounted: restart this container, or mount the directory of the socket instead of the file"
	default:
		return "start the engine that listens on " + s.path + ", or set --docker.host to another address"
	}
}

// missingHint says what to do if there is no socket.
func missingHint(environment Environment) string {
	if environment.InContainer {
		return "mount the engine's socket into this container (-v /var/run/docker.sock:/var/run/docker.sock), or set --docker.host to the engine's address; start the engine if it does not run"
	}
	return "start the engine, set --docker.host to its address, or, in a container, mount its socket (-v /var/run/docker.sock:/var/run/docker.sock)"
}
