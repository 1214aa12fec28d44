package rest

import v3 "lorikeet/messages/v3"

// authorizeRequest is what clients of The Things Stack send. It is not needed.
type authorizeRequest struct {
	APIKey string `json:"api_key,omitempty"`
}

// claimOperations describes QR codes and claims.
func claimOperations() map[string]operation {
	return map[string]operation{
		"GET /qr-codes/end-devices/formats":            {summary: "Lists the forms of QR codes.", answer: one[qrFormatsBody]()},
		"GET /qr-codes/end-devices/formats/:format_id": {summary: "Shows a form of QR codes.", answer: one[qrFormat]()},
		"POST /qr-codes/end-devices":                   {summary: "Makes the QR code of a device, as text and as an image.", request: one[qrCodeRequest](), answer: one[qrCodeBody]()},
		"POST /qr-codes/end-devices/parse":             {summary: "Reads a QR code.", request: one[qrParseRequest](), answer: one[qrParsedBody]()},
		"POST /qr-codes/end-devices/:format_id/parse":  {summary: "Reads a QR code of one form.", request: one[qrParseRequest](), answer: one[qrParsedBody]()},

		"POST /edcs/claim":                                      {summary: "Takes a device of another application, with its keys and session.", request: one[claimRequest](), answer: one[v3.EndDeviceIDs]()},
		"POST /edcs/claim/info":                                 {summary: "Says whether devices of a JoinEUI can be claimed.", request: one[claimInfoRequest](), answer: one[claimInfoBody]()},
		"POST /edcs/claim/info/batch":                           {summary: "Says whether devices of several JoinEUIs can be claimed.", request: one[claimInfosRequest](), answer: one[claimInfosBody]()},
		"GET /edcs/claim/:application_id/devices/:device_id":    {summary: "Shows where a device was claimed from.", answer: one[claimStatusBody]()},
		"DELETE /edcs/claim/:application_id/devices/:device_id": {summary: "Gives a device back to the application that it was claimed from."},
		"DELETE /edcs/claim/:application_id/devices/batch":      {summary: "Gives several devices back.", answer: one[unclaimBody](), query: []string{"device_ids"}},
		"POST /edcs/applications/:application_id/authorize":     {summary: "Lets devices of the application be claimed by who knows their codes.", request: one[authorizeRequest]()},
		"DELETE /edcs/applications/:application_id/authorize":   {summary: "Keeps devices of the application from being claimed."},
	}
}
