package registry

import (
	"context"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

func applicationNotFound(id string) error {
	return messages.NotFound("application_not_found", "application %q not found", shorten(id))
}

// applicationRecord is an application as stored.
type applicationRecord struct {
	v3.Application
	Deleting bool `json:"deleting,omitempty"` // by a node of several: nothing may be made in it any more
	Claiming bool `json:"claiming,omitempty"` // who knows the code of a device may take the device to an application of theirs
}

// Applications gives all, sorted by id.
func (r *Registry) Applications(ctx context.Context) ([]v3.Application, error) {
	return list[v3.Application](ctx, r, messages.KindApplication, "")
}

// Application gives one; application_not_found.
func (r *Registry) Application(ctx context.Context, id string) (v3.Application, error) {
	return get[v3.Application](ctx, r, messages.KindApplication, id, applicationNotFound(id))
}

func applicationDeleting(id string) error {
	return messages.NotFound("application_not_found", "application %q is being deleted: if that was interrupted, delete it again", shorten(id))
}

// ApplicationExists asks memory; for an application that is not there, it waits a moment for what other nodes have written.
func (r *Registry) ApplicationExists(id string) bool {
	if a, _ := r.index.application(id); a != nil {
		return true
	}
	if r.glance(context.Background()) != nil {
		return false
	}
	a, _ := r.index.application(id)
	return a != nil
}

// CreateApplication gives what was stored; id_taken.
func (r *Registry) CreateApplication(ctx context.Context, app v3.Application) (v3.Application, error) {
	id := app.IDs.ApplicationID
	if err := messages.ValidateID(id); err != nil {
		return v3.Application{}, err
	}
	taken := taken("id_taken", "there is an application %q already: choose another id", id)
	record, err := r.editApplication(id, creating(applicationRecord{Application: app}, taken)).run(ctx, r)
	return record.Application, err
}

// UpdateApplication changes one by compare-and-set: change may run more than once. ids and created_at stay; application_not_found.
func (r *Registry) UpdateApplication(ctx context.Context, id string, change func(*v3.Application) error) (v3.Application, error) {
	e := r.editApplication(id, func(found bool, v *applicationRecord) error {
		switch {
		case !found:
			return applicationNotFound(id)
		case v.Deleting:
			return applicationDeleting(id)
		}
		return change(&v.Application)
	})
	e.application = id
	record, err := e.run(ctx, r)
	return record.Application, err
}

func (r *Registry) editApplication(id string, change func(bool, *applicationRecord) error) edit[applicationRecord] {
	return edit[applicationRecord]{
		place:  place{kind: messages.KindApplication, id: id},
		change: change,
		settle: func(old applicationRecord, v *applicationRecord) error {
			if err := keepID("ids.application_id", &v.IDs.ApplicationID, id); err != nil {
				return err
			}
			v.CreatedAt, v.UpdatedAt = r.stamps(old.CreatedAt)
			return validateApplication(&v.Application)
		},
	}
}
