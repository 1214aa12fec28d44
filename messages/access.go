package messages

import "slices"

// Right is what an API key may do; the names are those of The Things Stack.
type Right string

const (
	RightApplicationAll              Right = "RIGHT_APPLICATION_ALL"
	RightApplicationInfo             Right = "RIGHT_APPLICATION_INFO"
	RightApplicationSettingsBasic    Right = "RIGHT_APPLICATION_SETTINGS_BASIC"
	RightApplicationSettingsAPIKeys  Right = "RIGHT_APPLICATION_SETTINGS_API_KEYS"
	RightApplicationSettingsCollab   Right = "RIGHT_APPLICATION_SETTINGS_COLLABORATORS"
	RightApplicationSettingsPackages Right = "RIGHT_APPLICATION_SETTINGS_PACKAGES"
	RightApplicationDelete           Right = "RIGHT_APPLICATION_DELETE"
	RightApplicationDevicesRead      Right = "RIGHT_APPLICATION_DEVICES_READ"
	RightApplicationDevicesWrite     Right = "RIGHT_APPLICATION_DEVICES_WRITE"
	RightApplicationDevicesReadKeys  Right = "RIGHT_APPLICATION_DEVICES_READ_KEYS"
	RightApplicationDevicesWriteKeys Right = "RIGHT_APPLICATION_DEVICES_WRITE_KEYS"
	RightApplicationTrafficRead      Right = "RIGHT_APPLICATION_TRAFFIC_READ"
	RightApplicationTrafficUpWrite   Right = "RIGHT_APPLICATION_TRAFFIC_UP_WRITE"
	RightApplicationTrafficDownWrite Right = "RIGHT_APPLICATION_TRAFFIC_DOWN_WRITE"
	RightApplicationLink             Right = "RIGHT_APPLICATION_LINK"
	RightGatewayAll                  Right = "RIGHT_GATEWAY_ALL"
)

// Access is what a valid API key gives: rights on one application, or on everything.
type Access struct {
	KeyID         string
	Admin         bool   // every right on everything
	ApplicationID string // scope of Rights
	Rights        []Right
}

// Can says whether every one of rights is given on the application.
func (a Access) Can(applicationID string, rights ...Right) bool {
	if a.Admin {
		return true
	}
	if a.ApplicationID == "" || a.ApplicationID != applicationID {
		return false
	}
	return !slices.ContainsFunc(rights, func(r Right) bool { return !a.has(r) })
}

func (a Access) has(want Right) bool {
	for _, r := range a.Rights {
		switch {
		case r == want || r == RightApplicationAll:
			return true
		case r == RightApplicationLink && (want == RightApplicationInfo || want == RightApplicationTrafficRead || want == RightApplicationTrafficDownWrite):
			return true
		}
	}
	return false
}

// Change says that a registry document was written or deleted.
type Change struct {
	Kind    Kind
	ID      string
	Deleted bool
}
