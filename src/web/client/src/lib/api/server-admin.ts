// The contract's calls that change the server; loaded with the dialog that makes them.
import { AdminServerService } from './gen/chatto/admin/v1/admin_server_service_pb';
import { clientOf } from './transport';

export const serverAdmin = clientOf(AdminServerService);
