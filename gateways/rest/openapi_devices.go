package rest

import (
	v3 "lorikeet/messages/v3"
)

// deviceOperations describes devices.
func deviceOperations() map[string]operation {
	return map[string]operation{
		"GET /applications/:application_id/devices":                  {summary: "Lists devices.", answer: list[v3.EndDevice]("end_devices"), query: paged},
		"POST /applications/:application_id/devices":                 {summary: "Makes a device, with all its fields at once if you like.", request: write[v3.EndDevice]("end_device"), answer: one[v3.EndDevice]()},
		"POST /applications/:application_id/devices/filter":          {summary: "Lists the devices that were changed since a time.", request: one[deviceFilter](), answer: list[v3.EndDevice]("end_devices")},
		"GET /search/applications/:application_id/devices":           {summary: "Finds devices.", answer: list[v3.EndDevice]("end_devices"), query: listing("query", "id_contains", "name_contains", "description_contains", "dev_eui_contains", "join_eui_contains", "dev_addr_contains", "attributes_contain", "deleted")},
		"GET /applications/:application_id/devices/batch":            {summary: "Shows several devices; those that there are not are left out.", answer: list[v3.EndDevice]("end_devices"), query: []string{"device_ids", "field_mask"}},
		"DELETE /applications/:application_id/devices/batch":         {summary: "Deletes several devices.", query: []string{"device_ids"}},
		"GET /applications/:application_id/devices/:device_id":       {summary: "Shows a device.", answer: one[v3.EndDevice](), query: oneMask},
		"PUT /applications/:application_id/devices/:device_id":       {summary: "Changes a device.", request: write[v3.EndDevice]("end_device"), answer: one[v3.EndDevice]()},
		"DELETE /applications/:application_id/devices/:device_id":    {summary: "Deletes a device with its session."},
		"PATCH /ns/applications/:application_id/devices/:device_id":  {summary: "Resets a device to what it was before it joined; its nonces stay.", request: empty, answer: one[v3.EndDevice]()},
		"POST /ns/applications/:application_id/devices":              {summary: "Writes the network server part of a device.", request: write[v3.EndDevice]("end_device"), answer: one[v3.EndDevice]()},
		"GET /ns/applications/:application_id/devices/:device_id":    {summary: "Shows a device that has a network server part.", answer: one[v3.EndDevice](), query: oneMask},
		"PUT /ns/applications/:application_id/devices/:device_id":    {summary: "Writes the network server part of a device.", request: write[v3.EndDevice]("end_device"), answer: one[v3.EndDevice]()},
		"DELETE /ns/applications/:application_id/devices/:device_id": {summary: "Takes the network server part of a device away."},
		"DELETE /ns/applications/:application_id/devices/batch":      {summary: "Takes the network server part of several devices away.", query: []string{"device_ids"}},
		"POST /as/applications/:application_id/devices":              {summary: "Writes the application server part of a device.", request: write[v3.EndDevice]("end_device"), answer: one[v3.EndDevice]()},
		"GET /as/applications/:application_id/devices/:device_id":    {summary: "Shows a device that has a application server part.", answer: one[v3.EndDevice](), query: oneMask},
		"PUT /as/applications/:application_id/devices/:device_id":    {summary: "Writes the application server part of a device.", request: write[v3.EndDevice]("end_device"), answer: one[v3.EndDevice]()},
		"DELETE /as/applications/:application_id/devices/:device_id": {summary: "Takes the application server part of a device away."},
		"DELETE /as/applications/:application_id/devices/batch":      {summary: "Takes the application server part of several devices away.", query: []string{"device_ids"}},
		"POST /js/applications/:application_id/devices":              {summary: "Writes the join server part of a device.", request: write[v3.EndDevice]("end_device"), answer: one[v3.EndDevice]()},
		"GET /js/applications/:application_id/devices/:device_id":    {summary: "Shows a device that has a join server part.", answer: one[v3.EndDevice](), query: oneMask},
		"PUT /js/applications/:application_id/devices/:device_id":    {summary: "Writes the join server part of a device.", request: write[v3.EndDevice]("end_device"), answer: one[v3.EndDevice]()},
		"DELETE /js/applications/:application_id/devices/:device_id": {summary: "Takes the join server part of a device away."},
		"DELETE /js/applications/:application_id/devices/batch":      {summary: "Takes the join server part of several devices away.", query: []string{"device_ids"}},
	}
}
