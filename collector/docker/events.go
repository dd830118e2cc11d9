package docker

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
)

// Event is one event of the engine.
type Event struct {
	Type, Action string
	ID           string // of the object
	Attributes   map[string]string
	TimeNano     int64 // by the engine's clock
}

// The types and actions of events that the state depends on.
const (
	ContainerEvent = string(events.ContainerEventType)
	ImageEvent     = string(events.ImageEventType)
	VolumeEvent    = string(events.VolumeEventType)
	BuilderEvent   = string(events.BuilderEventType)
	NetworkEvent   = string(events.NetworkEventType)

	PruneAction   = string(events.ActionPrune)
	UnmountAction = string(events.ActionUnmount)
	CommitAction  = string(events.ActionCommit)
)

// eventFilters select the events. Actions are named one by one, because health checks make
// three events at each probe.
func eventFilters() filters.Args {
	args := filters.NewArgs()
	for _, kind := range []string{ContainerEvent, ImageEvent, VolumeEvent, BuilderEvent, NetworkEvent} {
		args.Add("type", kind)
	}
	for _, action := range []events.Action{
		events.ActionCreate, events.ActionStart, events.ActionRestart, events.ActionStop, events.ActionDie, events.ActionPause,
		events.ActionUnPause, events.ActionDestroy, events.ActionExtractToDir, events.ActionArchivePath, events.ActionRemove, events.ActionCommit, events.ActionPull,
		events.ActionTag, events.ActionUnTag, events.ActionDelete, events.ActionImport, events.ActionLoad, events.ActionPrune,
		events.ActionUnmount,    // of a volume, by a container that may have written to it
		events.ActionDisconnect, // the only event of a start that failed, which may have made mount points
	} {
		args.Add("event", string(action))
	}
	return args
}

// Events streams the events since a moment of the engine's clock (seconds with decimals;
// empty: from now on) to handle. It calls opened once the engine has accepted the request,
// and returns when the stream ends, which is an error.
func (a *API) Events(ctx context.Context, since string, opened func(), handle func(Event)) error {
	const endpoint = "/events"
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The engine answers at once, even if there are no events.
	unanswered := time.AfterFunc(a.client.Timeout, cancel)
	var head responseHead
	messages, errs := a.api.Events(context.WithValue(ctx, headKey{}, &head), events.ListOptions{Filters: eventFilters(), Since: since})
	if !unanswered.Stop() {
		return a.client.explain(endpoint, context.DeadlineExceeded)
	}
	if head.status != http.StatusOK { // refused, with a reason, or no event stream at all
		select {
		case err := <-errs:
			return a.client.explain(endpoint, err)
		case <-time.After(a.client.Timeout):
			return a.client.explain(endpoint, fmt.Errorf("%w: HTTP status %d", errMalformed, head.status))
		}
	}
	opened()
	for {
		select {
		case m := <-messages:
			event := Event{string(m.Type), string(m.Action), m.Actor.ID, m.Actor.Attributes, m.TimeNano}
			if event.Type == ImageEvent {
				event.ID = imageID(event.ID)
			}
			handle(event)
		case err := <-errs:
			return a.client.explain(endpoint, err)
		}
	}
}
